#include "interface.h"

#include "build_info.h"
#include "cpu/dispatch.h"
#ifdef CLOF_CUDA
#include "cuda/add_layer_norm.h"
#include "cuda/frame_message.h"
#include "cuda/mlp.h"
#endif

const char* clof_ext_version() { return CLOF_VERSION; }

namespace clof {
namespace {

#ifdef CLOF_CUDA
Storage storage_of(const std::string& dtype) {
  return dtype == "float32"    ? Storage::float32
         : dtype == "bfloat16" ? Storage::bfloat16
         : dtype == "float16"  ? Storage::float16
                               : Storage::float64;
}

std::optional<std::string> in_words(const char* reason) {
  return reason == nullptr ? std::nullopt : std::optional<std::string>(reason);
}
#else
constexpr const char* kNoCuda = "the extension was built without nvcc";
#endif

}  // namespace

BuildInfo build_info() {
#ifdef CLOF_CUDA
  return {CLOF_VERSION, CLOF_COMPILER, CLOF_TORCH_TARGET, CLOF_CUDA_VERSION, CLOF_CUDA_ARCHITECTURES};
#else
  return {CLOF_VERSION, CLOF_COMPILER, CLOF_TORCH_TARGET, nullptr, nullptr};
#endif
}

std::vector<std::string> instruction_sets() { return cpu::available(); }
std::vector<std::string> emulated_instruction_sets() { return cpu::emulated(); }
std::string instruction_set() { return cpu::kernels().instruction_set; }
bool select_instruction_set(const std::string& name) { return cpu::select(name); }

std::string bfloat16_unit() {
  switch (cpu::kernels().unit) {
    case BFloat16Unit::none: return "none";
    case BFloat16Unit::pairs: return "pairs";
    case BFloat16Unit::tiles: return "tiles";
    case BFloat16Unit::emulated_tiles: return "emulated tiles";
  }
  return "none";
}

std::optional<std::string> frame_message_limit(const std::string& dtype, int64_t hidden, int64_t edge_features,
                                               bool backward) {
#ifdef CLOF_CUDA
  return in_words(cuda::frame_message_limit(storage_of(dtype), hidden, edge_features, backward));
#else
  return kNoCuda;
#endif
}

std::optional<std::string> mlp_limit(const std::string& dtype, const std::vector<int64_t>& inputs,
                                     const std::vector<int64_t>& outputs, bool backward) {
#ifdef CLOF_CUDA
  return in_words(cuda::mlp_limit(storage_of(dtype), inputs, outputs, backward));
#else
  return kNoCuda;
#endif
}

std::optional<std::string> add_layer_norm_limit(const std::string& x, const std::string& h, const std::string& weight,
                                                int64_t width) {
#ifdef CLOF_CUDA
  return in_words(cuda::add_layer_norm_limit(storage_of(x), storage_of(h), storage_of(weight), width));
#else
  return kNoCuda;
#endif
}

}  // namespace clof
