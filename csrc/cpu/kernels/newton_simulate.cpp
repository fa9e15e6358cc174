// Simulates a register full of systems at a time, from the first step to the last, in the first-level cache.
//
// To be compiled with -ffp-contract=off, so that every instruction set gives the same bits: close encounters amplify a
// rounding until it can be seen. Squared distances are those of differences, without the cancellation of
// clof_ext/newton/reference.py. Its order of operations would not bring its trajectories: NumPy's power rounds in ways
// of its own, and chaos makes as much of that.
#include "newton_simulate.h"

#include <new>

#include "kernels_of_isa.h"
#include "loops.h"

namespace clof {
namespace CLOF_ISA {
namespace {

using S = Register<double>;
using Vector = Vec3<S>;

// The systems in the lanes of a register; past the end the last one again, which then is simulated more than once.
using Block = Rows<S>;

Block block_from(int64_t first, int64_t end) {
  Block block = consecutive<S>(first);
  for (int64_t& system : block.at) system = system < end ? system : end - 1;
  return block;
}

// What a block needs while it is simulated; a pair is i < j, by rows of the upper triangle.
struct State {
  int64_t num_particles;
  Vector* pos;
  Vector* vel;
  Vector* force;
  S* charges;
  S* couplings;

  static int64_t num_pairs(int64_t n) { return n * (n - 1) / 2; }
  static size_t bytes(int64_t n) { return 3 * n * sizeof(Vector) + (n + num_pairs(n)) * sizeof(S); }
  State(int64_t n, void* memory)
      : num_particles(n),
        pos(static_cast<Vector*>(memory)),
        vel(pos + n),
        force(vel + n),
        charges(reinterpret_cast<S*>(force + n)),
        couplings(charges + n) {}
};

CLOF_HD S clip(S x, S limit) {
  x = select(x > limit, limit, x);
  return select(-limit > x, -limit, x);
}

CLOF_HD Vector uniform(const double (&v)[3]) { return {S(v[0]), S(v[1]), S(v[2])}; }

void load_state(const NewtonArguments& a, const Block& block, State& state) {
  const int64_t n = a.num_particles;
  S* coupling = state.couplings;
  for (int64_t i = 0; i < n; ++i) {
    const auto vector = [&](const double* base) {
      return Vector{load<S>(base, block, 3 * n, 3 * i), load<S>(base, block, 3 * n, 3 * i + 1),
                    load<S>(base, block, 3 * n, 3 * i + 2)};
    };
    state.pos[i] = vector(a.pos);
    state.vel[i] = vector(a.vel);
    state.charges[i] = load<S>(a.charges, block, n, i);
    for (int64_t j = i + 1; j < n; ++j) *coupling++ = load<S>(a.coupling, block, n * n, i * n + j);
  }
}

void store_frame(const Vector* vectors, const NewtonArguments& a, const Block& block, int64_t frame, double* frames) {
  const int64_t system = (a.num_steps - 1) / a.sample_every * a.num_particles * 3;
  for (int64_t i = 0; i < a.num_particles; ++i) {
    const int64_t column = (frame * a.num_particles + i) * 3;
    store(frames, block, system, column, vectors[i].x);
    store(frames, block, system, column + 1, vectors[i].y);
    store(frames, block, system, column + 2, vectors[i].z);
  }
}

// What multiplies d in the pair force.
template <bool InverseSquare> CLOF_HD S pair_strength(S coupling, Vector d, S softening) {
  if constexpr (!InverseSquare) return coupling;
  const S squared = dot(d, d) + softening;
  return coupling / squared / square_root(squared);
}

// Each pair once: particle j receives the terms of i = 0, 1, ... in this order, as in a sum over its own neighbours.
template <bool InverseSquare> void add_pair_forces(const State& state, S softening) {
  const S* coupling = state.couplings;
  for (int64_t i = 0; i < state.num_particles; ++i) {
    const Vector pos = state.pos[i];
    Vector force = state.force[i];
    for (int64_t j = i + 1; j < state.num_particles; ++j) {
      const Vector d = pos - state.pos[j];
      const Vector term = pair_strength<InverseSquare>(*coupling++, d, softening) * d;
      force = force + term;
      state.force[j] = state.force[j] - term;
    }
    state.force[i] = force;
  }
}

template <bool InverseSquare> void kick(const NewtonArguments& a, const State& state) {
  for (int64_t i = 0; i < state.num_particles; ++i) state.force[i] = {S(0.0), S(0.0), S(0.0)};
  add_pair_forces<InverseSquare>(state, S(a.softening));
  const Vector gravity = uniform(a.gravity), magnetic_field = uniform(a.magnetic_field);
  const S time_step(a.time_step), limit(a.force_limit);
  for (int64_t i = 0; i < state.num_particles; ++i) {
    const Vector magnetic = state.charges[i] * cross(state.vel[i], magnetic_field);
    const Vector force = state.force[i] + gravity + magnetic;
    const Vector clipped = {clip(force.x, limit), clip(force.y, limit), clip(force.z, limit)};
    state.vel[i] = state.vel[i] + time_step * clipped;
  }
}

template <bool InverseSquare> void simulate(const NewtonArguments& a, const Block& block, State& state) {
  const S time_step(a.time_step);
  load_state(a, block, state);
  for (int64_t step = 1; step < a.num_steps; ++step) {
    kick<InverseSquare>(a, state);
    for (int64_t i = 0; i < a.num_particles; ++i) state.pos[i] = state.pos[i] + time_step * state.vel[i];
    if (step % a.sample_every == 0) {
      const int64_t frame = step / a.sample_every - 1;
      store_frame(state.pos, a, block, frame, a.pos_frames);
      store_frame(state.vel, a, block, frame, a.vel_frames);
    }
  }
}

}  // namespace

void newton_simulate(const NewtonArguments& a, int64_t begin, int64_t end) {
  constexpr std::align_val_t alignment{alignof(S)};
  void* memory = ::operator new(State::bytes(a.num_particles), alignment);
  State state(a.num_particles, memory);
  for (int64_t first = begin; first < end; first += lanes_of<S>) {
    const Block block = block_from(first, end);
    if (a.inverse_square) simulate<true>(a, block, state);
    else simulate<false>(a, block, state);
  }
  ::operator delete(memory, alignment);
}

}  // namespace CLOF_ISA
}  // namespace clof
