# Warnings are errors for our code only; they are properties of targets, so that a dependency never sees them.
add_library(t5_warnings INTERFACE)
target_compile_options(t5_warnings INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wvla -Wundef -Werror
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>)

# Hardening that costs nothing measurable; with sanitizers the fortified libc would hide their reports.
add_library(t5_hardening INTERFACE)
target_compile_options(t5_hardening INTERFACE -fstack-protector-strong -fno-omit-frame-pointer)
target_link_options(t5_hardening INTERFACE -Wl,-z,relro,-z,now)
if(T5_SANITIZE)
    target_compile_options(t5_hardening INTERFACE -fsanitize=${T5_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(t5_hardening INTERFACE -fsanitize=${T5_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_definitions(t5_hardening INTERFACE _FORTIFY_SOURCE=2)
endif()
