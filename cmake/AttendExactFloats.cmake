# SPDX-License-Identifier: Apache-2.0
include(CheckSymbolExists)

# attend_exact_floats()
#
# Takes out of the flags that this folder got from the cache, the environment or the project around it whatever lets a
# compiler give other bits than the source says: sums in another order, no NaN, no infinity, no denormals, other widths.
# The parent's own targets keep theirs. What comes in later, kernels/exact_floats.h refuses. For 32-bit x86 it adds what
# computes in the width of the types: the x87 unit does not.
macro(attend_exact_floats)
  get_cmake_property(_attend_variables VARIABLES)
  list(FILTER _attend_variables INCLUDE REGEX "^CMAKE_(C|CXX|EXE_LINKER|SHARED_LINKER|MODULE_LINKER)_FLAGS(_[A-Z]+)?$")
  set(_attend_taken "")
  foreach(_attend_variable IN LISTS _attend_variables)
    _attend_exact(${_attend_variable} "${${_attend_variable}}")
  endforeach()
  foreach(_attend_property IN ITEMS COMPILE_OPTIONS LINK_OPTIONS)
    get_directory_property(_attend_options ${_attend_property})
    _attend_exact(_attend_options "${_attend_options}")
    set_directory_properties(PROPERTIES ${_attend_property} "${_attend_options}")
  endforeach()
  if(_attend_taken)
    list(REMOVE_DUPLICATES _attend_taken)
    list(JOIN _attend_taken " " _attend_taken)
    message(STATUS "attend: not for its own sources, whose results are the same bits everywhere: ${_attend_taken}")
  endif()
  check_symbol_exists(__i386__ "" ATTEND_I386)
  if(ATTEND_I386)
    add_compile_options(-msse2 -mfpmath=sse)
  endif()
endmacro()

# Sets `variable` to the flags without those that are inexact, and adds these to _attend_taken.
function(_attend_exact variable flags)
  string(JOIN "|" inexact "-Ofast" "-ffast-math" "-f(unsafe|associative|reciprocal)-math(-optimizations)?"
         "-ffinite-math-only" "-fno-(signed-zeros|honor-nans|honor-infinities)" "-fapprox-func" "-fsingle-precision-constant"
         "-ffp-(model|eval-method|contract)=[a-z0-9-]+" "-fdenormal-fp-math(-f32)?=[a-z,-]+" "-m(recip|fpmath)(=[a-z0-9!,+:-]+)?"
         "-mdaz-ftz")
  set(begin "(^|[ ;:\"])")
  string(REGEX MATCHALL "${begin}(${inexact})" taken "${flags}")
  string(REGEX REPLACE "[ :\"]" "" taken "${taken}")
  list(REMOVE_ITEM taken "")
  string(REGEX REPLACE "${begin}-Ofast" "\\1-O3" flags "${flags}")
  string(REGEX REPLACE "${begin}(${inexact})" "\\1" flags "${flags}")
  set(${variable} "${flags}" PARENT_SCOPE)
  set(_attend_taken ${_attend_taken} ${taken} PARENT_SCOPE)
endfunction()
