// PyTorch's current stream on a tensor's device, which is the current device for as long as this lives.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

namespace clof::cuda {

class Stream {
 public:
  explicit Stream(const torch::stable::Tensor& tensor);
  // A cudaStream_t; without its type, so that files that nvcc does not compile can hold one.
  void* handle() const { return handle_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* handle_;
};

}  // namespace clof::cuda
