#include "stream.h"

#include <dlfcn.h>

#include "../check.h"

namespace clof::cuda {
namespace {

using GetStream = AOTITorchError (*)(int32_t device_index, void** stream);

// Looked up when first needed, so that one binary also loads beside a torch without CUDA.
GetStream find_get_stream() {
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
  if (!symbol) check::fail("CUDA tensors need a torch with CUDA; this torch has no libtorch_cuda.");
  return reinterpret_cast<GetStream>(symbol);
}

void* current_stream(int32_t device_index) {
  static const GetStream get = find_get_stream();
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(get(device_index, &stream));
  return stream;
}

}  // namespace

Stream::Stream(const torch::stable::Tensor& tensor)
    : guard_(tensor.get_device_index()), handle_(current_stream(tensor.get_device_index())) {}

}  // namespace clof::cuda
