# SPDX-License-Identifier: Apache-2.0
include(CheckCCompilerFlag)

set(ATTEND_ISA_BUILT "")   # names, widest first
set(ATTEND_ISA_OBJECTS "") # for the libraries

# attend_isa(<name> [FLAGS <flag>...] [PROCESSOR <regex>])
#
# Makes an object library of the bodies that kernels/<name>/rows.def has rows of, compiled with FLAGS and nothing else,
# when the target processor matches the regex, which is for 64 bits, and the compiler knows the flags. A body is
# instantiated on the folder's vec.h; where the folder has a file <body>.c of its own, that is the body. The flags are left
# in ATTEND_ISA_FLAGS_<name>.
macro(attend_isa name)
  _attend_isa(${name} ${ARGN})
  if(TARGET attend_${name})
    list(PREPEND ATTEND_ISA_BUILT ${name})
    list(APPEND ATTEND_ISA_OBJECTS $<TARGET_OBJECTS:attend_${name}>)
    get_target_property(ATTEND_ISA_FLAGS_${name} attend_${name} ATTEND_FLAGS)
  endif()
endmacro()

function(_attend_isa name)
  cmake_parse_arguments(PARSE_ARGV 1 isa "" "PROCESSOR" "FLAGS")
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
  if(isa_PROCESSOR AND NOT (processor MATCHES "^(${isa_PROCESSOR})$" AND CMAKE_SIZEOF_VOID_P EQUAL 8))
    return()
  endif()
  if(isa_FLAGS)
    list(JOIN isa_FLAGS " " flags)
    check_c_compiler_flag("${flags}" ATTEND_COMPILES_${name})
    if(NOT ATTEND_COMPILES_${name})
      message(WARNING "attend: no ${name} kernels: ${CMAKE_C_COMPILER} does not take ${flags}")
      return()
    endif()
  endif()
  set(folder ${PROJECT_SOURCE_DIR}/kernels/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.c)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${folder}/rows.def)
  file(READ ${folder}/rows.def rows)
  set(body_streaming "ATTEND_STREAMING")
  set(body_three_pass "ATTEND_(BLOCKED|TILED)")
  set(body_decode "ATTEND_DECODE")
  set(body_masked_softmax "ATTEND_SOFTMAX")
  set(body_append "ATTEND_APPEND")
  set(body_merge_parts "ATTEND_MERGE")
  foreach(body IN ITEMS streaming three_pass decode masked_softmax append merge_parts)
    if(rows MATCHES "${body_${body}}\\(" AND NOT EXISTS ${folder}/${body}.c)
      set(source ${PROJECT_BINARY_DIR}/generated/${name}_${body}.c)
      file(CONFIGURE OUTPUT ${source} @ONLY CONTENT
           "#include \"kernels/${name}/vec.h\"\n\n#include \"kernels/body/${body}.h\"\n")
      list(APPEND sources ${source})
    endif()
  endforeach()
  add_library(attend_${name} OBJECT ${sources})
  target_include_directories(attend_${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_compile_options(attend_${name} PRIVATE ${isa_FLAGS})
  if(ATTEND_SANITIZE MATCHES "fuzzer-no-link") # a third of the time of the build; the address sanitizer sees these faults
    target_compile_options(attend_${name} PRIVATE -fno-sanitize=alignment,null,object-size,pointer-overflow)
  endif()
  set_target_properties(attend_${name} PROPERTIES ATTEND_FLAGS "${isa_FLAGS}")
endfunction()

# attend_write_rows(<folder>): writes built_rows.def, the rows of every instruction set that is built, into the folder.
function(attend_write_rows folder)
  set(includes "")
  foreach(isa IN LISTS ATTEND_ISA_BUILT)
    string(APPEND includes "#include \"kernels/${isa}/rows.def\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${folder}/built_rows.def CONTENT "${includes}" @ONLY)
endfunction()
