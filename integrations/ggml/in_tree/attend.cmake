# SPDX-License-Identifier: Apache-2.0
# Included by a ggml to which ggml.patch was applied, for each variant of its CPU backend: attend within it.
# GGML_CPU_NAME is the variant's target, GGML_CPU_ATTEND the folder of attend's sources.
if(NOT TARGET attend_static)
  add_subdirectory(${GGML_CPU_ATTEND} ${CMAKE_BINARY_DIR}/attend EXCLUDE_FROM_ALL)
endif()
set(attend_sources ${CMAKE_CURRENT_LIST_DIR}/attend.cpp)
foreach(name IN ITEMS computation convert cpu_extension node plans)
  list(APPEND attend_sources ${GGML_CPU_ATTEND}/integrations/ggml/${name}.cpp)
endforeach()
add_library(${GGML_CPU_NAME}-attend OBJECT ${attend_sources})
set_target_properties(${GGML_CPU_NAME}-attend PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON POSITION_INDEPENDENT_CODE ON
                                                         CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(${GGML_CPU_NAME}-attend PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/../include ${CMAKE_CURRENT_SOURCE_DIR}
                                                           ${CMAKE_CURRENT_SOURCE_DIR}/ggml-cpu)
target_link_libraries(${GGML_CPU_NAME}-attend PRIVATE attend_static)
target_link_libraries(${GGML_CPU_NAME} PRIVATE ${GGML_CPU_NAME}-attend attend_static)
# Of this file alone, so that the others compile as they did.
set_source_files_properties(ggml-cpu/ggml-cpu.cpp PROPERTIES COMPILE_DEFINITIONS GGML_USE_CPU_ATTEND)
