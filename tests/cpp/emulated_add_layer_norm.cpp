// The CUDA kernels of add_layer_norm on an emulated GPU, as functions that Python calls:
// tests/cuda/emulated_add_layer_norm.py.
#include "../../csrc/cuda/add_layer_norm_call.h"

#include <cmath>
#include <vector>

namespace clof::cuda {
namespace {

template <class Types, class Shape> void run_forward(const AddLayerNormProblem& p, int64_t most_blocks) {
  const AddLayerNorm<Types, Shape> kernel{{p}};
  launch(int(norm_blocks<Shape>(p.rows, most_blocks)), kNormThreads, 0, kernel);
}

template <class Types, class Shape> void run_backward(const AddLayerNormProblem& p, int64_t most_blocks) {
  using Number = typename Types::Number;
  const int64_t blocks = norm_blocks<Shape>(p.rows, most_blocks);
  std::vector<Number> sums(size_t(blocks * 2 * p.width), Number(NAN));
  const AddLayerNormBackward<Types, Shape> kernel{{p}, sums.data()};
  launch(int(blocks), kNormThreads, size_t(2 * p.width) * sizeof(Number), kernel);
  const AddLayerNormFinish<Types> finish{p, sums.data(), int(blocks)};
  launch(int(norm_finish_blocks<Types>(p)), kNormThreads, kNormThreads * sizeof(Number), finish);
}

}  // namespace
}  // namespace clof::cuda

// `p` as csrc/functor/arguments.h lays it out.
extern "C" void emulated_add_layer_norm(const clof::AddLayerNormProblem* p, int64_t most_blocks, int backward,
                                        int descending) {
  using namespace clof::cuda;
  emulated::descending = descending;
  with_norm_types(*p, [&](auto types) {
    using Types = decltype(types);
    with_norm_shape<typename Types::Number>(*p, [&](auto shape) {
      if (backward) run_backward<Types, decltype(shape)>(*p, most_blocks);
      else run_forward<Types, decltype(shape)>(*p, most_blocks);
    });
  });
}

// Why the kernels cannot run tensors of these numbers and so many columns, or null.
extern "C" const char* emulated_norm_limit(int x, int h, int weight, int64_t width) {
  using clof::Storage;
  return clof::cuda::norm_limit(Storage(x), Storage(h), Storage(weight), width);
}
