# T5_WITH_CUDA: AUTO builds the GPU plug-in when nvcc is found, ON insists, OFF does not look.
set(T5_WITH_CUDA AUTO CACHE STRING "Build the GPU plug-in: AUTO, ON or OFF")
set_property(CACHE T5_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)
set(T5_CUDA_ARCHS "80;86;89;90;100;120" CACHE STRING "GPU architectures; the last one's PTX is included for newer ones")

set(T5_NVCC "")
if(NOT T5_WITH_CUDA STREQUAL "OFF")
    find_program(T5_NVCC_PROGRAM nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
    if(T5_NVCC_PROGRAM)
        set(T5_NVCC ${T5_NVCC_PROGRAM})
    elseif(T5_WITH_CUDA STREQUAL "ON")
        message(FATAL_ERROR "T5_WITH_CUDA is ON, but nvcc was not found: put it on PATH or set CUDA_HOME")
    endif()
endif()

# t5_cuda_objects(out_var a.cu ...): compiles each file with nvcc for all architectures; warnings are errors. ptxas says
# how many registers and spilled bytes each kernel has in <file>.ptxas.txt.
function(t5_cuda_objects out_var)
    set(flags -std=c++17 -O3 -Werror all-warnings -Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra -Xptxas=-v
        -I${PROJECT_SOURCE_DIR})
    foreach(arch ${T5_CUDA_ARCHS})
        list(APPEND flags -gencode arch=compute_${arch},code=sm_${arch})
    endforeach()
    list(GET T5_CUDA_ARCHS -1 newest)
    list(APPEND flags -gencode arch=compute_${newest},code=compute_${newest})
    set(objects "")
    foreach(source ${ARGN})
        get_filename_component(name ${source} NAME_WE)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.cu.o)
        add_custom_command(OUTPUT ${object}
            COMMAND ${PROJECT_SOURCE_DIR}/scripts/nvcc.sh ${CMAKE_CURRENT_BINARY_DIR}/${name}.ptxas.txt ${T5_NVCC} ${flags}
                    -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
            DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} ${PROJECT_SOURCE_DIR}/scripts/nvcc.sh DEPFILE ${object}.d
            COMMENT "nvcc ${source}" VERBATIM)
        list(APPEND objects ${object})
    endforeach()
    set(${out_var} ${objects} PARENT_SCOPE)
endfunction()
