// Tensors in another dtype in one step, which autocast asks for: weights, and their gradients.
#include <array>

#include "host.h"

namespace clof::host {
namespace {

// In elements. What a part of shared memory begins at a multiple of: any kernel may read it in pieces.
constexpr int64_t kPlace = 64;
// The most that shares memory, as most weights do; larger tensors have their own, which is free without the others.
constexpr int64_t kMostShared = 1 << 17;

bool shares(const Tensor& tensor) { return tensor.numel() <= kMostShared; }

// New tensors of the shapes of others. A piece of memory for each would cost more than what is written there.
std::vector<Tensor> empty_all(const std::vector<Tensor>& likes, ScalarType dtype) {
  std::vector<int64_t> first = {0};
  for (const Tensor& like : likes) {
    const int64_t count = shares(like) ? like.numel() : 0;
    first.push_back(first.back() + (count + kPlace - 1) / kPlace * kPlace);
  }
  const Tensor memory = empty(likes[0], {first.back()}, dtype);
  std::vector<Tensor> all;
  all.reserve(likes.size());
  for (size_t k = 0; k < likes.size(); ++k) {
    const auto sizes = likes[k].sizes();
    all.push_back(shares(likes[k]) ? part(memory, first[k], sizes) : empty(likes[k], sizes, dtype));
  }
  return all;
}

std::vector<Tensor> cast_all(const std::vector<Tensor>& tensors, ScalarType dtype) {
  if (tensors.empty()) return {};
  for (const Tensor& tensor : tensors) check::same_device(tensor, tensors[0], "each tensor", "the first");
  const std::vector<Tensor> out = empty_all(tensors, dtype);
  std::array<StableIValue, 3> stack = {torch::stable::detail::from(out), torch::stable::detail::from(tensors),
                                       torch::stable::detail::from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::_foreach_copy_", "", stack.data(), TORCH_ABI_VERSION));
  return out;
}

}  // namespace
}  // namespace clof::host

// Of no device: what torch copies with, it finds.
STABLE_TORCH_LIBRARY_IMPL(clof_ext, CompositeExplicitAutograd, library) {
  library.impl("cast_all", TORCH_BOX(&clof::host::cast_all));
}
