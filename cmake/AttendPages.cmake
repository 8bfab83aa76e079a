# SPDX-License-Identifier: Apache-2.0
# Man pages and what shells complete, made of what the programs print for --help. So they need Python and programs that
# run here: without, or in a cross build, there are none.
find_package(Python3 QUIET COMPONENTS Interpreter)
set(ATTEND_PAGES "")
if(CMAKE_CROSSCOMPILING)
  message(STATUS "attend: no man pages and completions: they are made by running the program, which this machine cannot")
elseif(NOT Python3_Interpreter_FOUND)
  message(STATUS "attend: no man pages and completions: they need Python 3")
else()
  set(ATTEND_PAGES ${PROJECT_BINARY_DIR}/pages)
  set(programs $<TARGET_FILE:attend_cli>)
  if(TARGET attend-bench)
    list(APPEND programs $<TARGET_FILE:attend-bench>)
  endif()
  file(GLOB makers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cli/pages/*.py)
  add_custom_command(
    OUTPUT ${ATTEND_PAGES}/man/attend.1
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${ATTEND_PAGES}
    COMMAND ${CMAKE_COMMAND} -E env OPENBLAS_NUM_THREADS=1 ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/cli/pages ${ATTEND_PAGES} ${programs}
    DEPENDS ${makers} ${programs} ${PROJECT_SOURCE_DIR}/report/__main__.py
    COMMENT "Making man pages and completions" VERBATIM)
  add_custom_target(attend_pages ALL DEPENDS ${ATTEND_PAGES}/man/attend.1)

  set(zsh_dir site-functions)
  if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND EXISTS /etc/debian_version)
    set(zsh_dir vendor-completions) # where Debian's zsh looks below /usr
  endif()
  set(ATTEND_BASH_DIR ${CMAKE_INSTALL_DATADIR}/bash-completion/completions CACHE STRING "Where bash looks for completions")
  set(ATTEND_ZSH_DIR "" CACHE STRING "Where zsh looks for completions; empty: where it does below the prefix")
  set(zsh_to ${ATTEND_ZSH_DIR})
  if(NOT zsh_to) # found anew each time: the prefix of a build may change
    set(zsh_to ${CMAKE_INSTALL_DATADIR}/zsh/${zsh_dir})
  endif()
  set(ATTEND_FISH_DIR ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d CACHE STRING "Where fish looks for completions")
endif()
