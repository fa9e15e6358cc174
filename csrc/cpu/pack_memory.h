// Reading and writing memory for a register full of edges.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "../functor/lanes.h"
#include "shuffle.h"

namespace clof {
inline namespace CLOF_ISA {

template <class T> constexpr int lanes_of<Pack<T>> = Pack<T>::width;

template <class T> struct Lanes<Pack<T>> {
  alignas(CLOF_VECTOR_BYTES) T at[Pack<T>::width];

  CLOF_HD explicit Lanes(Pack<T> x) { std::memcpy(at, &x.lanes, sizeof at); }
};

// `Count` numbers in a piece. What follows them in memory, which may be the end of an array, is not touched.
template <int Count, class T> CLOF_HD piece_t<T> load_piece(const T* from) {
  if constexpr (Count == Piece<T>::width) {
    piece_t<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
  } else if constexpr (Count == 3) {
#if defined(__AVX__)
    return _mm_maskload_ps(from, _mm_set_epi32(0, -1, -1, -1));
#else
    return piece_t<T>{from[0], from[1], from[2]};
#endif
  } else {
    static_assert(Count == 1, "3 numbers to a power leave no other remainder");
    return piece_t<T>{from[0]};
  }
}

template <int Count, class T> CLOF_HD void store_piece(T* to, piece_t<T> x) {
  if constexpr (Count == 3) {
    std::memcpy(to, &x, 2 * sizeof(T));
    to[2] = x[2];
  } else {
    std::memcpy(to, &x, Count * sizeof(T));
  }
}

// A register of numbers that lie side by side, in the type that computes or a narrower one.
template <class T, class U> CLOF_HD Pack<T> load_side_by_side(const U* from) {
  Pack<T> x;
  if constexpr (std::is_same_v<T, U>) {
    std::memcpy(&x.lanes, from, sizeof x.lanes);
  } else {
    T wide[Pack<T>::width];
    for (int lane = 0; lane < Pack<T>::width; ++lane) wide[lane] = widen(from[lane]);
    std::memcpy(&x.lanes, wide, sizeof wide);
  }
  return x;
}

template <class T, class U> CLOF_HD void store_side_by_side(U* to, Pack<T> x) {
  if constexpr (std::is_same_v<T, U>) {
    std::memcpy(to, &x.lanes, sizeof x.lanes);
  } else {
    const Lanes<Pack<T>> lanes(x);
    for (int lane = 0; lane < Pack<T>::width; ++lane) to[lane] = Narrow<U>::from(lanes.at[lane]);
  }
}

// Rows move as pieces, whose numbers are then exchanged inside the registers: for 9 floats three moves a row, not nine.
template <class T> struct Memory<Pack<T>> {
  static constexpr int width = Pack<T>::width;
  static constexpr int piece = Piece<T>::width;
  template <int C> using Row = Numbers<Pack<T>, C>;

  template <int C, class U> static CLOF_HD Row<C> load(const U* base, const Rows<Pack<T>>& rows, int64_t stride) {
    Row<C> out;
    if constexpr (std::is_same_v<T, U>) {
      for_pieces<C, true>([&](auto count, int column) {
        Square<T> square;
        for (int r = 0; r < piece; ++r) {
          square.at[r] =
              from_pieces<T>([&](int p) { return load_piece<count>(base + rows.at[p * piece + r] * stride + column); });
        }
        square = square.transposed();
        for (int c = 0; c < count; ++c) out.at[column + c] = square.at[c];
      });
    } else {
      for (int c = 0; c < C; ++c) out.at[c] = gather(base + c, rows, stride, std::make_index_sequence<width>());
    }
    return out;
  }

  template <int C, class U>
  static CLOF_HD void store(U* base, const Rows<Pack<T>>& rows, int64_t stride, const Row<C>& x) {
    if constexpr (std::is_same_v<T, U>) {
      for_pieces<C, true>([&](auto count, int column) {
        for_rows(columns<count>(x, column), [&](int lane, piece_t<T> numbers) {
          store_piece<count>(base + rows.at[lane] * stride + column, numbers);
        });
      });
    } else {
      for (int c = 0; c < C; ++c) {
        const Lanes<Pack<T>> lanes(x.at[c]);
        for (int lane = 0; lane < width; ++lane) base[rows.at[lane] * stride + c] = Narrow<U>::from(lanes.at[lane]);
      }
    }
  }

  // Frames fill whole registers, which are stored without being cut into pieces.
  template <int C, class U> static CLOF_HD void store_rows(U* to, const Row<C>& x) {
    if constexpr (kShufflesWhole && C == 9 && std::is_same_v<T, U>) {
      Row<C> lines = x;
      join_rows(lines.at);
      unrolled<C>([&](int i) { store_side_by_side(to + i * width, lines.at[i]); });
    } else {
      store(to, consecutive<Pack<T>>(0), C, x);
    }
  }

  // Edges of one node follow one another: its sum stays in a register until the next node's begins.
  template <int C> static CLOF_HD void accumulate(T* base, const Rows<Pack<T>>& rows, int64_t stride, const Row<C>& x) {
    for_pieces<C, false>([&](auto count, int column) {
      T* at = base + rows.at[0] * stride + column;
      piece_t<T> sum = load_piece<count>(at);
      for_rows(columns<count>(x, column), [&](int lane, piece_t<T> numbers) {
        if (lane > 0 && rows.at[lane] != rows.at[lane - 1]) {
          store_piece<count>(at, sum);
          at = base + rows.at[lane] * stride + column;
          sum = load_piece<count>(at);
        }
        sum += numbers;
      });
      store_piece<count>(at, sum);
    });
  }

 private:
  // Calls body(count, column) for pieces that together are the columns [0, C); count is a compile-time constant. Where
  // `overlap` allows it the last piece is a whole one as well, which begins inside the one before.
  template <int C, bool overlap, class Body> static CLOF_HD void for_pieces(const Body& body) {
    for_pieces<C, overlap>(body, std::make_index_sequence<C / piece>());
  }
  template <int C, bool overlap, class Body, size_t... index>
  static CLOF_HD void for_pieces(const Body& body, std::index_sequence<index...>) {
    (body(std::integral_constant<int, piece>(), int(index) * piece), ...);
    constexpr int rest = C % piece, last = overlap && C > piece ? piece : rest;
    if constexpr (rest > 0) body(std::integral_constant<int, last>(), C - last);
  }

  template <int Count, int C> static CLOF_HD Square<T> columns(const Row<C>& x, int column) {
    Square<T> square;
    for (int c = 0; c < piece; ++c) square.at[c] = x.at[column + std::min(c, Count - 1)];
    return square.transposed();
  }

  // Calls body(lane, numbers) for the rows of a square, in their order.
  template <class Body> static CLOF_HD void for_rows(const Square<T>& square, const Body& body) {
    for_rows(square, body, std::make_index_sequence<width>());
  }
  template <class Body, size_t... lane>
  static CLOF_HD void for_rows(const Square<T>& square, const Body& body, std::index_sequence<lane...>) {
    (body(int(lane), piece_of<lane / piece>(square.at[lane % piece])), ...);
  }

  // As one initialiser, which the compiler turns into register inserts.
  template <class U, size_t... lane> static CLOF_HD Pack<T> gather(const U* base, const Rows<Pack<T>>& rows,
                                                                   int64_t stride, std::index_sequence<lane...>) {
    return Pack<T>(typename Pack<T>::Vector{T(widen(base[rows.at[lane] * stride]))...});
  }
};

}  // namespace CLOF_ISA
}  // namespace clof
