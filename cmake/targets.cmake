# t5_library(name SOURCES a.c ... [LINKS target ...]): a folder's static library with our include root and warnings.
function(t5_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    target_link_libraries(${name} PUBLIC ${ARG_LINKS} Threads::Threads m PRIVATE t5_warnings t5_hardening)
endfunction()

# t5_program(name SOURCES a.c ... LINKS target ...): an executable with the same rules.
function(t5_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE T5_VERSION="${PROJECT_VERSION}")
    target_link_libraries(${name} PRIVATE ${ARG_LINKS} Threads::Threads m t5_warnings t5_hardening)
endfunction()
