# SPDX-License-Identifier: Apache-2.0
# Installation: header, libraries, program, CMake package and pkg-config file.
include(CMakePackageConfigHelpers)

install(FILES include/attend/attend.h include/attend/layers.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/attend)
install(TARGETS attend_shared EXPORT attend-shared)
install(TARGETS attend_static EXPORT attend-static)
if(ATTEND_MPI)
  install(FILES integrations/mpi/include/attend/mpi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/attend)
  install(TARGETS attend_mpi EXPORT attend-mpi)
endif()
if(ATTEND_CLI)
  install(TARGETS attend_cli)
endif()
if(ATTEND_CLI AND NOT ATTEND_CLI STREQUAL "VERIFY")
  install(DIRECTORY report DESTINATION ${CMAKE_INSTALL_DATADIR}/attend PATTERN __pycache__ EXCLUDE)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attend)
set(kinds shared static)
if(ATTEND_MPI)
  list(APPEND kinds mpi)
endif()
foreach(kind IN LISTS kinds)
  install(EXPORT attend-${kind} NAMESPACE attend:: DESTINATION ${package_dir} FILE attend-${kind}.cmake)
endforeach()
configure_package_config_file(cmake/attend-config.cmake.in ${PROJECT_BINARY_DIR}/attend-config.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a new minor version may break callers.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/attend-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/attend-config.cmake ${PROJECT_BINARY_DIR}/attend-config-version.cmake
        DESTINATION ${package_dir})

# attend.pc finds its prefix from where it lies, so that an installed tree can be moved. Absolute library or header
# directories are for packagers who set them, and are taken as they are.
set(pc_private "-lm ${CMAKE_THREAD_LIBS_INIT}")
if(ATTEND_USES_OPENMP)
  string(APPEND pc_private " ${OpenMP_C_FLAGS}")
endif()
if(ATTEND_BLAS) # not by Requires.private, which would ask for what a static OpenBLAS needs
  list(JOIN OPENBLAS_LDFLAGS " " flags)
  string(APPEND pc_private " ${flags}")
endif()
if(ATTEND_HWLOC) # likewise
  list(JOIN HWLOC_LDFLAGS " " flags)
  string(APPEND pc_private " ${flags}")
endif()
foreach(dir IN ITEMS INCLUDEDIR LIBDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(pc_${dir} "${CMAKE_INSTALL_${dir}}")
  else()
    set(pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH pc_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" pc_prefix "\${pcfiledir}/${pc_prefix}")
endif()
configure_file(cmake/attend.pc.in ${PROJECT_BINARY_DIR}/attend.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/attend.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
