# SPDX-License-Identifier: Apache-2.0
# What scripts/llama asks of llama.cpp's CMake from outside (CMAKE_PROJECT_llama.cpp_INCLUDE), because building it took longer than all
# else. ggml is left as it is, and so are the files of libllama that run for every token: those are measured. Argument parsing,
# templates of chats, downloads and the graphs of 150 models are not: they are compiled together and with less optimisation.

function(attend_build_quickly)
  set(for_every_token llama-batch llama-context llama-graph llama-kv-cache)

  get_target_property(folder llama SOURCE_DIR)
  set_target_properties(llama PROPERTIES UNITY_BUILD_BATCH_SIZE 40) # files of models: llama.cpp's own number is 16
  target_compile_options(llama PRIVATE -O1)
  list(TRANSFORM for_every_token REPLACE "(.+)" "${folder}/\\1.cpp")
  set_source_files_properties(${for_every_token} TARGET_DIRECTORY llama PROPERTIES COMPILE_OPTIONS -O3)

  if(TARGET llama-common)
    get_target_property(folder llama-common SOURCE_DIR)
    set_target_properties(llama-common PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 9)
    set_source_files_properties(${folder}/json.cpp TARGET_DIRECTORY llama-common PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
  foreach(name IN ITEMS llama-common llama-bench-impl cpp-httplib)
    if(TARGET ${name})
      target_compile_options(${name} PRIVATE -O0)
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL attend_build_quickly)
