// Pieces of one block of memory, aligned to cache lines; without memory they are only counted.
#pragma once

#include <cstdint>

namespace clof {
inline namespace CLOF_ISA {

class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class T> T* take(int64_t count) {
    constexpr int64_t line = 64;
    char* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * int64_t(sizeof(T)) + line - 1) / line * line;
    return reinterpret_cast<T*>(piece);
  }

  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

}  // namespace CLOF_ISA
}  // namespace clof
