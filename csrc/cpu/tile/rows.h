// Loops over the padded rows of a tile, and between such rows and tensors of any storage type.
#pragma once

#include "register.h"

namespace clof {
inline namespace CLOF_ISA {

template <class Body> CLOF_HD void with_storage(Storage storage, const Body& body) {
  switch (storage) {
    case Storage::float32: return body(float());
    case Storage::float64: return body(double());
    case Storage::bfloat16: return body(BFloat16());
    case Storage::float16: return body(Half());
  }
}

inline int64_t bytes_of(Storage storage) {
  int64_t bytes = 0;
  with_storage(storage, [&](auto example) { bytes = sizeof example; });
  return bytes;
}

// Calls body(first, count) for the whole registers full of `columns` numbers, of which `count` is a constant then, and
// for what is left.
template <class T, class Body> CLOF_HD void for_pieces(int64_t columns, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes<T> <= columns; c += kLanes<T>) body(c, std::integral_constant<int64_t, kLanes<T>>());
  if (c < columns) body(c, columns - c);
}

// Row `row` of a dense (rows, columns) tensor, padded with zeros.
template <class T> void read_row(const void* tensor, Storage storage, int64_t row, int64_t columns, T* to) {
  with_storage(storage, [&](auto example) {
    const auto* from = static_cast<const decltype(example)*>(tensor) + row * columns;
    for_pieces<T>(columns, [&](int64_t first, auto count) {
      for (int64_t c = 0; c < count; ++c) to[first + c] = T(widen(from[first + c]));
    });
  });
  for (int64_t c = columns; c < padded<T>(columns); ++c) to[c] = 0;
}

template <class T> void write_row(const T* from, int64_t columns, void* tensor, Storage storage, int64_t row) {
  with_storage(storage, [&](auto example) {
    using U = decltype(example);
    U* to = static_cast<U*>(tensor) + row * columns;
    for_pieces<T>(columns, [&](int64_t first, auto count) {
      for (int64_t c = 0; c < count; ++c) to[first + c] = Narrow<U>::from(from[first + c]);
    });
  });
}

template <class T> void fill(T* to, int64_t count, T value) {
  for (int64_t c = 0; c < count; ++c) to[c] = value;
}

// The loops below run over whole registers: `count` is a padded number of columns.
template <class T, class Body> CLOF_HD void for_registers(int64_t count, const Body& body) {
  for (int64_t c = 0; c < count; c += kLanes<T>) body(c);
}

template <class T> void add_to(T* to, const T* from, int64_t count) {
  for_registers<T>(count, [&](int64_t c) { store(to + c, load(to + c) + load(from + c)); });
}

template <class T> void add_scaled(T* to, T factor, const T* from, int64_t count) {
  const Register<T> x(factor);
  for_registers<T>(count, [&](int64_t c) { store(to + c, load(to + c) + x * load(from + c)); });
}

template <class T> void scale(T* to, T factor, const T* from, int64_t count) {
  const Register<T> x(factor);
  for_registers<T>(count, [&](int64_t c) { store(to + c, x * load(from + c)); });
}

template <class T> void multiply_by(T* to, const T* from, int64_t count) {
  for_registers<T>(count, [&](int64_t c) { store(to + c, load(to + c) * load(from + c)); });
}

template <class T> T dot(const T* x, const T* y, int64_t count) {
  Register<T> sum(T(0));
  for_registers<T>(count, [&](int64_t c) { sum = sum + load(x + c) * load(y + c); });
  return sum_of_lanes(sum);
}

// to += the sum of the rows.
template <class T> void add_rows(T* to, const T* from, int64_t rows, int64_t columns) {
  for_registers<T>(columns, [&](int64_t c) {
    Register<T> sum = load(to + c);
    for (int64_t r = 0; r < rows; ++r) sum = sum + load(from + r * columns + c);
    store(to + c, sum);
  });
}

// to += the sum of the rows, each times its factor.
template <class T> void add_rows_scaled(T* to, const T* factors, const T* from, int64_t rows, int64_t columns) {
  for_registers<T>(columns, [&](int64_t c) {
    Register<T> sum = load(to + c);
    for (int64_t r = 0; r < rows; ++r) sum = sum + Register<T>(factors[r]) * load(from + r * columns + c);
    store(to + c, sum);
  });
}

}  // namespace CLOF_ISA
}  // namespace clof
