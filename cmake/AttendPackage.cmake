# SPDX-License-Identifier: Apache-2.0
# What `cpack` makes: a tarball that can be unpacked anywhere (-G TGZ), and Debian packages (-G DEB), which are for builds
# that are configured for /usr. `scripts/package` makes both.
set(ATTEND_MAINTAINER "The attend developers <maintainers@attend.invalid>" CACHE STRING "Whom Debian packages name")

set(CPACK_PACKAGE_NAME attend)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_PACKAGE_VENDOR "attend")
set(CPACK_PACKAGE_CONTACT "${ATTEND_MAINTAINER}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
string(TOLOWER ${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR} system)
set(CPACK_PACKAGE_FILE_NAME attend-${PROJECT_VERSION}-${system})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has its own
set(CPACK_GENERATOR TGZ)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
                                                WORLD_READ WORLD_EXECUTE)

if(EXISTS /etc/debian_version)
  set(CPACK_DEB_COMPONENT_INSTALL ON)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
  set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
  set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
  set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/AttendPackageDebian.cmake) # documents, as Debian wants them
  set(CPACK_ATTEND_SOURCE ${PROJECT_SOURCE_DIR})
  set(CPACK_ATTEND_VERSION ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
  set(CPACK_ATTEND_MAINTAINER "${ATTEND_MAINTAINER}")
  if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
    set(CPACK_ATTEND_WRONG_PREFIX ${CMAKE_INSTALL_PREFIX})
  endif()
endif()

# attend_package(<component> <Debian package> <section> <first line> <text> [<field> <value>]...): a component as a package
# of its own. Fields are Debian's: DEPENDS, RECOMMENDS, SUGGESTS, MULTIARCH.
set(CPACK_COMPONENTS_ALL "")
macro(attend_package component package section line text)
  string(TOUPPER ${component} id)
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_DEBIAN_${id}_PACKAGE_NAME ${package})
  set(CPACK_DEBIAN_${id}_PACKAGE_SECTION ${section})
  set(CPACK_DEBIAN_${id}_DESCRIPTION "${line}\n${text}")
  set(fields ${ARGN})
  while(fields)
    list(POP_FRONT fields field value)
    set(CPACK_DEBIAN_${id}_PACKAGE_${field} "${value}")
  endwhile()
endmacro()

set(about "attend computes softmax(scale * Q K^T + bias, masked) V on the CPU, for
inference engines to link. It detects the processor when it runs, and takes
batches as engines keep them: packed, padded, or in pages of a cache.

")
set(soversion ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
attend_package(library libattend${soversion} libs "CPU attention kernels for inference engines"
  "${about}This package holds the shared library." MULTIARCH same)

set(static_needs "")
if(ATTEND_BLAS)
  list(APPEND static_needs libopenblas-dev)
endif()
if(ATTEND_HWLOC)
  list(APPEND static_needs libhwloc-dev)
endif()
list(JOIN static_needs ", " static_needs)
attend_package(development libattend-dev libdevel "CPU attention kernels for inference engines: to build with"
  "${about}This package holds headers, the static library, and what CMake and
pkg-config find the library by. The packages that it suggests are for the
static library."
  MULTIARCH same DEPENDS "libattend${soversion} (= ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})" SUGGESTS "${static_needs}")

if(ATTEND_CLI)
  attend_package(tools attend-tools science "CPU attention kernels: programs that run, check and tune them"
    "${about}This package holds attend, which computes attention on .npy files and
with the weights of models, checks every kernel against a plain reference
and tunes for this machine; attend-bench, which measures kernels beside the
limits of the machine; their man pages, and completions for bash, zsh and
fish."
    DEPENDS "python3:any" RECOMMENDS "python3-matplotlib")
endif()
if(TARGET ggml-attend)
  attend_package(ggml ggml-attend libs "CPU attention kernels for llama.cpp and other users of ggml"
    "${about}This package holds libggml-attend.so, by which an unmodified llama.cpp
computes attention by attend where GGML_BACKEND_PATH names it. It is built
for ggml ${ATTEND_GGML_VERSION}, and says so in any other and is not used there.")
endif()
if(ATTEND_PYTHON_TREE)
  file(GLOB module ${ATTEND_PYTHON_TREE}/attend/_attend.cpython-*.so)
  if(NOT module MATCHES "/_attend\\.cpython-3([0-9]+)-[^/]*$")
    message(FATAL_ERROR "ATTEND_PYTHON_TREE is an unpacked wheel of Debian's Python: ${ATTEND_PYTHON_TREE} has no attend/_attend.cpython-3*.so")
  endif()
  math(EXPR next "${CMAKE_MATCH_1} + 1")
  attend_package(python python3-attend python "CPU attention kernels for NumPy, PyTorch and transformers"
    "${about}This package holds the Python package: attention on arrays of NumPy and
of all that has DLPack, and, where they are installed, for PyTorch and
transformers. It has the library inside."
    DEPENDS "python3 (>= 3.${CMAKE_MATCH_1}~), python3 (<< 3.${next}), python3-numpy")
  set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/cmake/debian/postinst ${PROJECT_SOURCE_DIR}/cmake/debian/prerm)
endif()
unset(about)

include(CPack)
