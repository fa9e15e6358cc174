// Rearranging the lanes of packs: between numbers side by side in memory and one kind of number per register.
#pragma once

#include <utility>

#include "pack.h"

namespace clof {
inline namespace CLOF_ISA {

// Lane l of the result is number Order::at(l) of the lanes of x followed by those of y.
template <class Order, class T, size_t... lane>
CLOF_HD Pack<T> shuffle(Pack<T> x, Pack<T> y, std::index_sequence<lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return Pack<T>(__builtin_shufflevector(x.lanes, y.lanes, Order::at(lane)...));
#else
  return Pack<T>(__builtin_shuffle(x.lanes, y.lanes, typename Pack<T>::Mask{Order::at(lane)...}));
#endif
}
template <class Order, class T> CLOF_HD Pack<T> shuffle(Pack<T> x, Pack<T> y) {
  return shuffle<Order>(x, y, std::make_index_sequence<Pack<T>::width>());
}

// Calls body(0), ..., body(Count - 1). An array indexed so stays in registers; a loop is unrolled too late for that.
template <class Body, size_t... index> CLOF_HD void unrolled(const Body& body, std::index_sequence<index...>) {
  (body(int(index)), ...);
}
template <int Count, class Body> CLOF_HD void unrolled(const Body& body) {
  unrolled(body, std::make_index_sequence<Count>());
}

// Whether one instruction takes any numbers of two registers.
#if defined(__AVX512F__)
constexpr bool kShufflesWhole = true;
#else
constexpr bool kShufflesWhole = false;
#endif

// A 16-byte piece of a register. Every instruction set has fast moves of pieces and fast shuffles inside them.
template <class T> struct Piece {
  typedef T Vector __attribute__((vector_size(16)));
  static constexpr int width = 16 / sizeof(T);
};
template <class T> using piece_t = typename Piece<T>::Vector;

template <int index, class T> CLOF_HD piece_t<T> piece_of(Pack<T> x) {
#if defined(__AVX512F__)
  return (piece_t<T>)_mm512_maskz_extracti32x4_epi32(0xff, (__m512i)x.lanes, index);
#elif defined(__AVX__)
  return (piece_t<T>)_mm256_extractf128_si256((__m256i)x.lanes, index);
#else
  return x.lanes;
#endif
}

// The register whose piece i is get(i).
template <class T, class Get> CLOF_HD Pack<T> from_pieces(const Get& get) {
  using Vector = typename Pack<T>::Vector;
#if defined(__AVX512F__)
  __m512i out = _mm512_castsi128_si512((__m128i)get(0));
  out = _mm512_inserti32x4(out, (__m128i)get(1), 1);
  out = _mm512_inserti32x4(out, (__m128i)get(2), 2);
  return Pack<T>((Vector)_mm512_inserti32x4(out, (__m128i)get(3), 3));
#elif defined(__AVX__)
  const __m256i low = _mm256_castsi128_si256((__m128i)get(0));
  return Pack<T>((Vector)_mm256_insertf128_si256(low, (__m128i)get(1), 1));
#else
  return Pack<T>((Vector)get(0));
#endif
}

// x0 y0 x1 y1 ... of the lower (Half = 0) or upper (Half = 1) halves of every piece.
template <class T, int Half> struct Interleaved {
  static constexpr int at(int lane) {
    const int in_piece = lane % Piece<T>::width;
    return lane - in_piece + Half * Piece<T>::width / 2 + in_piece / 2 + in_piece % 2 * Pack<T>::width;
  }
};

// As many registers as a piece has numbers: number c of piece p of register r becomes number r of piece p of register
// c.
template <class T> struct Square {
  static constexpr int size = Piece<T>::width;
  Pack<T> at[size];

  CLOF_HD Square transposed() const {
    Square out = *this;
    for (int round = 1; round < size; round *= 2) {
      const Square in = out;
      for (int r = 0; r < size / 2; ++r) {
        out.at[2 * r] = shuffle<Interleaved<T, 0>>(in.at[r], in.at[r + size / 2]);
        out.at[2 * r + 1] = shuffle<Interleaved<T, 1>>(in.at[r], in.at[r + size / 2]);
      }
    }
    return out;
  }
};

// Of two registers: lanes whose number has the bit `Distance` come from the second, the others from the first; the lane
// without that bit (High = 0) or with it (High = 1).
template <class T, int Distance, int High> struct Folded {
  static constexpr int at(int lane) {
    const int from = High ? lane | Distance : lane & ~Distance;
    return from + (lane & Distance ? Pack<T>::width : 0);
  }
};

// Lane l of the result is the sum of those lanes of x[l % Count] whose numbers are l but for the bits below Count.
template <int Count, class T> CLOF_HD Pack<T> sums_of_lanes(const Pack<T>* x) {
  if constexpr (Count == 1) {
    return x[0];
  } else {
    constexpr int half = Count / 2;
    const Pack<T> first = sums_of_lanes<half>(x), second = sums_of_lanes<half>(x + half);
    return shuffle<Folded<T, half, 0>>(first, second) + shuffle<Folded<T, half, 1>>(first, second);
  }
}

// Lane l of the result is the sum of the lanes of x[l].
template <class T> CLOF_HD Pack<T> sums_of_lanes(const Pack<T> (&x)[Pack<T>::width]) {
  return sums_of_lanes<Pack<T>::width, T>(x);
}

// Every third number, from `First`, of three registers, in two shuffles: of the first two, then of that and the third.
template <class T, int First> struct ThirdsOfTwo {
  static constexpr int at(int lane) {
    const int number = 3 * lane + First;
    return number < 2 * Pack<T>::width ? number : 0;
  }
};
template <class T, int First> struct ThirdsOfLast {
  static constexpr int at(int lane) {
    const int number = 3 * lane + First;
    return number < 2 * Pack<T>::width ? lane : number - Pack<T>::width;
  }
};

// The inverse: register `Part` of x0 y0 z0 x1 y1 z1 ..., in two shuffles: of x and y, then of that and z.
template <class T, int Part> struct TriplesOfTwo {
  static constexpr int at(int lane) {
    const int number = Part * Pack<T>::width + lane;
    return number / 3 + (number % 3 == 1 ? Pack<T>::width : 0);
  }
};
template <class T, int Part> struct TriplesOfLast {
  static constexpr int at(int lane) {
    const int number = Part * Pack<T>::width + lane;
    return number % 3 == 2 ? Pack<T>::width + number / 3 : lane;
  }
};

template <class T> struct Triple {
  Pack<T> at[3];

  CLOF_HD Triple split() const {
    return {third<ThirdsOfTwo<T, 0>, ThirdsOfLast<T, 0>>(), third<ThirdsOfTwo<T, 1>, ThirdsOfLast<T, 1>>(),
            third<ThirdsOfTwo<T, 2>, ThirdsOfLast<T, 2>>()};
  }
  CLOF_HD Triple joined() const {
    return {third<TriplesOfTwo<T, 0>, TriplesOfLast<T, 0>>(), third<TriplesOfTwo<T, 1>, TriplesOfLast<T, 1>>(),
            third<TriplesOfTwo<T, 2>, TriplesOfLast<T, 2>>()};
  }

 private:
  template <class OfTwo, class OfLast> CLOF_HD Pack<T> third() const {
    return shuffle<OfLast>(shuffle<OfTwo>(at[0], at[1]), at[2]);
  }
};

// Count = 3^r registers of numbers that lie side by side, Count to a row, become one register for each of the Count
// columns: thirds of thirds.
template <class T, int Count> CLOF_HD void split_rows(Pack<T> (&x)[Count]) {
  if constexpr (Count > 1) {
    constexpr int third = Count / 3;
    Pack<T> part[3][third];
    for (int i = 0; i < third; ++i) {
      // Not const: GCC 12 leaves const aggregates of a loop in memory. The same below.
      Triple<T> triple = Triple<T>{x[3 * i], x[3 * i + 1], x[3 * i + 2]}.split();
      for (int v = 0; v < 3; ++v) part[v][i] = triple.at[v];
    }
    for (int v = 0; v < 3; ++v) {
      split_rows(part[v]);
      for (int u = 0; u < third; ++u) x[3 * u + v] = part[v][u];
    }
  }
}

template <class T, int Count> CLOF_HD void join_rows(Pack<T> (&x)[Count]) {
  if constexpr (Count > 1) {
    constexpr int third = Count / 3;
    Pack<T> part[3][third];
    for (int v = 0; v < 3; ++v) {
      for (int u = 0; u < third; ++u) part[v][u] = x[3 * u + v];
      join_rows(part[v]);
    }
    for (int i = 0; i < third; ++i) {
      Triple<T> triple = Triple<T>{part[0][i], part[1][i], part[2][i]}.joined();
      for (int v = 0; v < 3; ++v) x[3 * i + v] = triple.at[v];
    }
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
