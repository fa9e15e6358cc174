#include "table_sum.h"

#include "../tile/register.h"
#include "kernels_of_isa.h"

namespace clof {
namespace CLOF_ISA {

// Registers that the columns of a row are worked on in at a time, and rows of a run that are summed together.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kColumnRegisters = 2;
#else
constexpr int kColumnRegisters = 1;
#endif
constexpr int kRunRows = 8;
// Runs that give to the same rows at a time.
constexpr int32_t kRunsAtOnce = 64;

// Calls body(S(), n, column) for all columns: pieces of n numbers of type S, registers or, at the end, single numbers.
template <class T, class Body> void for_columns(int64_t width, const Body& body) {
  using S = Register<T>;
  constexpr int64_t kStep = kColumnRegisters * kLanes<T>;
  int64_t column = 0;
  for (; column + kStep <= width; column += kStep) body(S(), std::integral_constant<int, kColumnRegisters>(), column);
  for (; column + kLanes<T> <= width; column += kLanes<T>) body(S(), std::integral_constant<int, 1>(), column);
  for (; column < width; ++column) body(T(), std::integral_constant<int, 1>(), column);
}

// Calls body(n) with `count`, at most `Most`, as a type.
template <int Most, class Body> void with_count(int64_t count, const Body& body) {
  if (count == Most) return body(std::integral_constant<int, Most>());
  if constexpr (Most > 1) with_count<Most - 1>(count, body);
}

template <class S, class T> S read(const T* from) {
  S x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class S, class T> void write(T* to, S x) { std::memcpy(to, &x, sizeof x); }

template <class T> struct TableSum {
  const TableSumArguments& a;

  const T* table_row(int64_t row) const { return static_cast<const T*>(a.table) + row * a.width; }
  const T* shares(int64_t run) const { return static_cast<const T*>(a.share) + run * a.window; }
  const T* grad_row(int64_t row) const { return static_cast<const T*>(a.grad) + row * a.width; }

  void forward(int64_t row) const {
    T* out = static_cast<T*>(a.out) + row * a.width;
    const T* base = a.base == nullptr ? nullptr : static_cast<const T*>(a.base) + row * a.width;
    for_columns<T>(a.width, [&](auto example, auto count, int64_t column) {
      using S = decltype(example);
      constexpr int n = decltype(count)::value;
      const auto place = [&](int c) { return column + c * int64_t(sizeof(S) / sizeof(T)); };
      S sum[n];
      for (int c = 0; c < n; ++c) sum[c] = base == nullptr ? S(T(0)) : read<S>(base + place(c));
      for (int64_t run = row * a.runs; run < (row + 1) * a.runs; ++run) {
        const T *share = shares(run), *from = table_row(a.first[run]);
        for (int64_t w = 0; w < a.window; ++w)
          for (int c = 0; c < n; ++c) sum[c] = sum[c] + S(share[w]) * read<S>(from + w * a.width + place(c));
      }
      for (int c = 0; c < n; ++c) write(out + place(c), a.relu ? at_least(S(T(0)), sum[c]) : sum[c]);
    });
  }

  // Rows [begin, end) of the table's gradient. Runs that start before `begin` may reach in.
  void grad_table(int64_t begin, int64_t end) const {
    T* to = static_cast<T*>(a.grad_table);
    std::memset(to + begin * a.width, 0, (end - begin) * a.width * sizeof(T));
    for (int64_t start = begin < a.window ? 0 : begin - a.window + 1; start < end; ++start) {
      const int64_t from = begin > start ? begin - start : 0, left = end - start;
      const int64_t until = left < a.window ? left : a.window;
      for (int64_t w = from; w < until; w += kRunRows) {
        const int64_t rows = until - w < kRunRows ? until - w : kRunRows;
        with_count<kRunRows>(rows, [&](auto count) { add_runs<decltype(count)::value>(start, w); });
      }
    }
  }

  // What the runs that start at a row give to `Rows` rows, from their w-th on; as many runs at a time as stay in the
  // cache.
  template <int Rows> void add_runs(int64_t start, int64_t w) const {
    const int32_t last = a.runs_at_start[start + 1];
    for (int32_t first = a.runs_at_start[start]; first < last; first += kRunsAtOnce) {
      add_runs<Rows>(start + w, w, first, last - first < kRunsAtOnce ? last : first + kRunsAtOnce);
    }
  }

  template <int Rows> void add_runs(int64_t row, int64_t w, int32_t first, int32_t last) const {
    T* to = static_cast<T*>(a.grad_table) + row * a.width;
    for_columns<T>(a.width, [&](auto example, auto count, int64_t column) {
      using S = decltype(example);
      constexpr int n = decltype(count)::value;
      const auto place = [&](int c) { return column + c * int64_t(sizeof(S) / sizeof(T)); };
      S sum[Rows][n];
      for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < n; ++c) sum[r][c] = S(T(0));
      for (int32_t k = first; k < last; ++k) {
        const int32_t run = a.by_first[k];
        const T *grad = grad_row(run / a.runs), *share = shares(run) + w;
        for (int c = 0; c < n; ++c) {
          const S x = read<S>(grad + place(c));
          for (int r = 0; r < Rows; ++r) sum[r][c] = sum[r][c] + S(share[r]) * x;
        }
      }
      for (int r = 0; r < Rows; ++r) {
        for (int c = 0; c < n; ++c) {
          T* at = to + r * a.width + place(c);
          write(at, read<S>(at) + sum[r][c]);
        }
      }
    });
  }

  void grad_share(int64_t row) const {
    for (int64_t run = row * a.runs; run < (row + 1) * a.runs; ++run) {
      T* to = static_cast<T*>(a.grad_share) + run * a.window;
      for (int64_t w = 0; w < a.window; ++w) {
        const T *grad = grad_row(row), *from = table_row(a.first[run] + w);
        Register<T> sum(T(0));
        T rest = 0;
        for_columns<T>(a.width, [&](auto example, auto count, int64_t column) {
          using S = decltype(example);
          for (int c = 0; c < decltype(count)::value; ++c) {
            const int64_t at = column + c * int64_t(sizeof(S) / sizeof(T));
            const S product = read<S>(grad + at) * read<S>(from + at);
            if constexpr (std::is_same_v<S, T>) rest += product;
            else sum = sum + product;
          }
        });
        to[w] = sum_of_lanes(sum) + rest;
      }
    }
  }

  void run(TableSumStage stage, int64_t begin, int64_t end) const {
    if (stage == TableSumStage::grad_table) return grad_table(begin, end);
    for (int64_t row = begin; row < end; ++row) {
      if (stage == TableSumStage::forward) forward(row);
      else grad_share(row);
    }
  }
};

void table_sum(const TableSumArguments& a, TableSumStage stage, int64_t begin, int64_t end) {
  if (a.dtype == Storage::float64) TableSum<double>{a}.run(stage, begin, end);
  else TableSum<float>{a}.run(stage, begin, end);
}

}  // namespace CLOF_ISA
}  // namespace clof
