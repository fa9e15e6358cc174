# The CUDA kernels: objects of csrc/cuda, cudart inside, no GPU needed to build.
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# 80 and 90, and PTX of the highest for newer GPUs, unless the caller names others.
if(NOT DEFINED CLOF_CUDA_ARCHITECTURES)
  set(CLOF_CUDA_ARCHITECTURES "80-real;90")
endif()

file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS csrc/cuda/*.cu csrc/cuda/*.cpp)
# Quotients and roots of float32 to two roundings, without a call for rare arguments: a third of all instructions.
set_source_files_properties(csrc/cuda/edge_frame.cu csrc/cuda/edge_scalars.cu csrc/cuda/tensor_form.cu
                            PROPERTIES COMPILE_OPTIONS "-prec-div=false;-prec-sqrt=false")
target_sources(clof_ext PRIVATE ${CUDA_SOURCES})
set_target_properties(clof_ext PROPERTIES
  CUDA_ARCHITECTURES "${CLOF_CUDA_ARCHITECTURES}"
  CUDA_STANDARD 17
  CUDA_RUNTIME_LIBRARY Static)
target_link_libraries(clof_ext PRIVATE CUDA::cudart_static)
target_compile_definitions(clof_ext PRIVATE CLOF_CUDA)
