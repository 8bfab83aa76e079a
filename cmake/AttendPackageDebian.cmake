# SPDX-License-Identifier: Apache-2.0
# Run by cpack when files lie as they will be packed: adds to Debian packages what each of them must have, the licence and
# the changes, and compresses what Debian wants compressed.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
if(CPACK_ATTEND_WRONG_PREFIX)
  message(FATAL_ERROR "Debian packages are for /usr: configure with -DCMAKE_INSTALL_PREFIX=/usr, not "
                      "${CPACK_ATTEND_WRONG_PREFIX}")
endif()

# The day of the package: SOURCE_DATE_EPOCH, if it is set.
string(TIMESTAMP year "%Y" UTC)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} id)
  set(package ${CPACK_DEBIAN_${id}_PACKAGE_NAME})
  set(root ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/${component}/usr)
  set(documents ${root}/share/doc/${package})
  file(WRITE ${documents}/copyright "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: attend

Files: *
Copyright: ${year} The attend developers
License: Apache-2.0
 On Debian systems the text of the licence is in
 /usr/share/common-licenses/Apache-2.0.
")
  if(component STREQUAL "python") # what its module has linked in
    set(module usr/lib/python3/dist-packages/attend)
    file(APPEND ${documents}/copyright "
Files: ${module}/_attend*
Copyright: ${year} The attend developers
           2022 Wenzel Jakob
           2017 Thibaut Goetghebuer-Planchon
License: Apache-2.0 and BSD-3-Clause and Expat
 The texts of the last two, of nanobind and of robin_map, are in
 /${module}/LICENSE.nanobind and LICENSE.robin_map.
")
  endif()
  file(WRITE ${documents}/changelog.Debian "attend (${CPACK_ATTEND_VERSION}) unstable; urgency=medium

  * Packaged as it is released. What changed is in changelog.gz.

 -- ${CPACK_ATTEND_MAINTAINER}  ${date}
")
  file(COPY_FILE ${CPACK_ATTEND_SOURCE}/NEWS.md ${documents}/changelog)
  file(GLOB pages ${root}/share/man/man1/*.1)
  execute_process(COMMAND gzip -9n ${documents}/changelog ${documents}/changelog.Debian ${pages} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
