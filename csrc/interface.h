// What is no operator: how the library was built, instruction sets, and what the CUDA kernels hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#define CLOF_EXPORT __attribute__((visibility("default")))

// For whoever loads the library without knowing its version.
extern "C" CLOF_EXPORT const char* clof_ext_version();

namespace clof {

struct BuildInfo {
  const char* version;
  const char* compiler;
  const char* torch_target;
  // Null in a build without CUDA.
  const char* cuda;
  const char* cuda_architectures;
};
CLOF_EXPORT BuildInfo build_info();

// Instruction sets built in that this processor runs, the best last, and those that software runs in part, for tests.
CLOF_EXPORT std::vector<std::string> instruction_sets();
CLOF_EXPORT std::vector<std::string> emulated_instruction_sets();
// The instruction set in use, and another one, for tests and measurements: false if it is not available.
CLOF_EXPORT std::string instruction_set();
CLOF_EXPORT bool select_instruction_set(const std::string& name);
// What multiplies bfloat16 numbers in frame_message: "none", "pairs", "tiles" or "emulated tiles".
CLOF_EXPORT std::string bfloat16_unit();

// Gives back what the calling thread keeps for its next call on the CPU, at most 16 MiB.
CLOF_EXPORT void release_memory();

// Why the CUDA kernels cannot run a frame_message of these sizes on the current device, or nothing.
CLOF_EXPORT std::optional<std::string> frame_message_limit(const std::string& dtype, int64_t hidden,
                                                           int64_t edge_features, bool backward);
// The same of an mlp, given the columns of its inputs and of what each Linear makes.
CLOF_EXPORT std::optional<std::string> mlp_limit(const std::string& dtype, const std::vector<int64_t>& inputs,
                                                 const std::vector<int64_t>& outputs, bool backward);
// The same of an add_layer_norm, given the dtypes of x, h and weight, and the columns.
CLOF_EXPORT std::optional<std::string> add_layer_norm_limit(const std::string& x, const std::string& h,
                                                            const std::string& weight, int64_t width);

}  // namespace clof
