// What is no operator, as C functions, which any Python and programs without Python can call: how this library was
// built, instruction sets, and what the CUDA kernels hold. Texts are static; a function returns null for no text.
#include <cstdint>
#include <string>
#include <vector>

#include "build_info.h"
#include "cpu/dispatch.h"
#ifdef CLOF_CUDA
#include "cuda/frame_message.h"
#include "cuda/mlp.h"
#endif

#define CLOF_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

#ifdef CLOF_CUDA
clof::Storage storage_of(const std::string& dtype) {
  using clof::Storage;
  return dtype == "float32"    ? Storage::float32
         : dtype == "bfloat16" ? Storage::bfloat16
         : dtype == "float16"  ? Storage::float16
                               : Storage::float64;
}
#else
constexpr const char* kNoCuda = "the extension was built without nvcc";
#endif

}  // namespace

// A JSON object of texts; those of CUDA are null in a build without it.
CLOF_EXPORT const char* clof_ext_build_info() {
  return "{\"version\": \"" CLOF_VERSION "\", \"compiler\": \"" CLOF_COMPILER
         "\", \"torch_target\": \"" CLOF_TORCH_TARGET
         "\", "
#ifdef CLOF_CUDA
         "\"cuda\": \"" CLOF_CUDA_VERSION "\", \"cuda_architectures\": \"" CLOF_CUDA_ARCHITECTURES "\"}";
#else
         "\"cuda\": null, \"cuda_architectures\": null}";
#endif
}

// Instruction sets built in that this processor runs, the best last, with spaces between them.
CLOF_EXPORT const char* clof_ext_instruction_sets() {
  static const std::string names = joined(clof::cpu::available());
  return names.c_str();
}

// Instruction sets that software runs in part, for tests.
CLOF_EXPORT const char* clof_ext_emulated_instruction_sets() {
  static const std::string names = joined(clof::cpu::emulated());
  return names.c_str();
}

// The instruction set in use.
CLOF_EXPORT const char* clof_ext_instruction_set() { return clof::cpu::kernels().instruction_set; }

// Use another instruction set, for tests and measurements; 0 if it is not available.
CLOF_EXPORT int clof_ext_select_instruction_set(const char* name) { return clof::cpu::select(name); }

// What multiplies bfloat16 numbers in frame_message: "none", "pairs", "tiles" or "emulated tiles".
CLOF_EXPORT const char* clof_ext_bfloat16_unit() {
  switch (clof::cpu::kernels().unit) {
    case clof::BFloat16Unit::none: return "none";
    case clof::BFloat16Unit::pairs: return "pairs";
    case clof::BFloat16Unit::tiles: return "tiles";
    case clof::BFloat16Unit::emulated_tiles: return "emulated tiles";
  }
  return "none";
}

// Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or null.
CLOF_EXPORT const char* clof_ext_frame_message_limit(const char* dtype, int64_t hidden, int64_t edge_features,
                                                     int backward) {
#ifdef CLOF_CUDA
  return clof::cuda::frame_message_limit(storage_of(dtype), hidden, edge_features, backward);
#else
  return kNoCuda;
#endif
}

// The same of an mlp, given the columns of its inputs and of what each Linear makes.
CLOF_EXPORT const char* clof_ext_mlp_limit(const char* dtype, const int64_t* inputs, int64_t num_inputs,
                                           const int64_t* outputs, int64_t num_outputs, int backward) {
#ifdef CLOF_CUDA
  return clof::cuda::mlp_limit(storage_of(dtype), {inputs, inputs + num_inputs}, {outputs, outputs + num_outputs},
                               backward);
#else
  return kNoCuda;
#endif
}
