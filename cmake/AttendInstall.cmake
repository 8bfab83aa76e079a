# SPDX-License-Identifier: Apache-2.0
# Installation: header, libraries, program, CMake package and pkg-config file. Components are what packages hold: the
# shared library, what programs are built with, the programs, the plug-in for ggml (which its own folder installs), the Python
# package, and what is for MPI, of which no package is made so far.
include(CMakePackageConfigHelpers)

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)
install(FILES include/attend/attend.h include/attend/append.h include/attend/formats.h include/attend/layers.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/attend)
install(TARGETS attend_shared EXPORT attend-shared RUNTIME COMPONENT library
                              LIBRARY COMPONENT library NAMELINK_COMPONENT development)
install(TARGETS attend_static EXPORT attend-static)
if(ATTEND_MPI)
  install(FILES integrations/mpi/include/attend/mpi.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/attend COMPONENT mpi)
  install(TARGETS attend_mpi EXPORT attend-mpi COMPONENT mpi)
  install(EXPORT attend-mpi NAMESPACE attend:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/attend FILE attend-mpi.cmake COMPONENT mpi)
endif()
if(ATTEND_CLI)
  install(TARGETS attend_cli COMPONENT tools)
endif()
if(ATTEND_CLI AND NOT ATTEND_CLI STREQUAL "VERIFY")
  install(DIRECTORY report DESTINATION ${CMAKE_INSTALL_DATADIR}/attend COMPONENT tools PATTERN __pycache__ EXCLUDE)
endif()
if(TARGET attend-bench)
  install(TARGETS attend-bench COMPONENT tools)
endif()
if(ATTEND_PYTHON_TREE)
  install(DIRECTORY ${ATTEND_PYTHON_TREE}/ DESTINATION lib/python3/dist-packages COMPONENT python)
endif()
if(ATTEND_PAGES)
  install(DIRECTORY ${ATTEND_PAGES}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tools)
  install(DIRECTORY ${ATTEND_PAGES}/bash/ DESTINATION ${ATTEND_BASH_DIR} COMPONENT tools)
  install(DIRECTORY ${ATTEND_PAGES}/zsh/ DESTINATION ${zsh_to} COMPONENT tools)
  install(DIRECTORY ${ATTEND_PAGES}/fish/ DESTINATION ${ATTEND_FISH_DIR} COMPONENT tools)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attend)
foreach(kind IN ITEMS shared static)
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
