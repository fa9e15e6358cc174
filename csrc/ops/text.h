// Strings as arguments of operators.
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>

namespace clof::host {

// A string argument, freed after the call. PyTorch's own conversion to std::string (2.10 to 2.13 at least) forgets one
// heap object at every call; between large blocks such objects keep glibc from using the memory again, and a training
// grew by megabytes a step.
struct Text : std::string {
  using std::string::string;
};

}  // namespace clof::host

namespace torch::stable::detail {

template <> struct ToImpl<clof::host::Text> {
  static clof::host::Text call(StableIValue value, uint64_t, bool) {
    const StringHandle handle = to<StringHandle>(value);
    const char* text = nullptr;
    size_t length = 0;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &text));
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    clof::host::Text result(text, length);
    STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return result;
  }
};

}  // namespace torch::stable::detail
