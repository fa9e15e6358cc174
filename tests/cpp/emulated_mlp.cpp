// The CUDA kernels of mlp on an emulated GPU, as functions that Python calls: tests/cuda/emulated_mlp.py.
#include "../../csrc/cuda/mlp_call.h"
#include "../../csrc/cuda/tile/with_kind.h"

#include <cmath>
#include <vector>

namespace clof::cuda {
namespace {

constexpr int kBlockThreads = kMlpWarps * kWarp;

template <class Kind, int Width, class Function> void run_forward(const MlpProblem& p, int64_t most_blocks) {
  const Mlp a = mlp_of(p, false);
  launch(int(mlp_blocks(p.rows, most_blocks, false)), kBlockThreads, size_t(a.layout.bytes),
         [&] { mlp_forward<Kind, Width, Function>(a); });
}

template <class Kind, class Function> void run_backward(const MlpProblem& p, int64_t most_blocks) {
  const int64_t blocks = mlp_blocks(p.rows, most_blocks, true);
  const MlpSumPlaces places = mlp_sum_places(p, kNarrowMlp);
  std::vector<float2> sums(size_t(blocks * places.total / 2 + 1), make_float2(NAN, NAN));
  const MlpGradient g = {mlp_of(p, true), &sums[0].x, places};
  launch(int(blocks), kBlockThreads, size_t(g.mlp.layout.bytes), [&] { mlp_backward<Kind, kNarrowMlp, Function>(g); });
  const FinishJobs jobs = mlp_finish_jobs(p, g.sums, blocks);
  launch(jobs.num_parts * FinishJobs::kBlocks, kBlockThreads, 0, [&] { finish_gradients<Kind>(jobs); });
}

template <class Kind, class Function> void run(const MlpProblem& p, int64_t most_blocks, bool backward) {
  if (backward) run_backward<Kind, Function>(p, most_blocks);
  else if (mlp_pass(p, false).width == kNarrowMlp) run_forward<Kind, kNarrowMlp, Function>(p, most_blocks);
  else run_forward<Kind, kWideMlp, Function>(p, most_blocks);
}

template <class Kind> void run(const MlpProblem& p, int64_t most_blocks, bool backward) {
  if (p.activation == Activation::silu) run<Kind, SiluOf<Kind>>(p, most_blocks, backward);
  else run<Kind, AnyOther>(p, most_blocks, backward);
}

}  // namespace
}  // namespace clof::cuda

// `p` as csrc/functor/arguments.h lays it out.
extern "C" void emulated_mlp(const clof::MlpProblem* p, int64_t most_blocks, int backward, int descending) {
  using namespace clof::cuda;
  emulated::descending = descending;
  with_kind(*p, [&](auto kind) { run<decltype(kind)>(*p, most_blocks, backward); });
}

// Bytes of shared memory that a block takes.
extern "C" int64_t emulated_mlp_shared(const clof::MlpProblem* p, int backward) {
  return clof::cuda::mlp_of(*p, backward).layout.bytes;
}
