// What the host sides of the operators with Linear layers have in common: work cut into chunks, and memory for it.
#pragma once

#include <atomic>
#include <thread>

#include "cuts.h"
#include "kept_memory.h"

namespace clof::host {

// Memory of a call, and the threads that work in it.
class Workshop {
 public:
  Workshop() = default;
  Workshop(const Tensor& like, int64_t shared_bytes, int64_t worker_bytes, int64_t chunks)
      : shared_bytes_(shared_bytes), num_workers_(std::min<int64_t>(torch::stable::get_num_threads(), chunks)) {
    memory_ = memory_of_call(like, shared_bytes + worker_bytes * num_workers_);
  }

  void* shared() const { return memory_.data_ptr(); }
  void* workers() const { return static_cast<char*>(memory_.data_ptr()) + shared_bytes_; }

  // Calls body(item, worker) for all items, each done by the thread that is free first.
  template <class Body> void run(int64_t items, const Body& body) const {
    std::atomic<int64_t> next{0};
    cpu::parallel_range(std::min(num_workers_, items), 1, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker) {
        for (int64_t item = next++; item < items; item = next++) body(item, worker);
      }
    });
  }

  // The same, and after each item finish(item, worker), among the items of a group in their order; an item is in group
  // item % groups. What finish() adds up is the same for any number of threads.
  template <class Body, class Finish>
  void run_in_turns(int64_t items, int64_t groups, const Body& body, const Finish& finish) const {
    std::vector<std::atomic<int64_t>> finished(groups);
    run(items, [&](int64_t item, int64_t worker) {
      body(item, worker);
      std::atomic<int64_t>& turn = finished[item % groups];
      // Items are taken in their order: whoever has the first unfinished one waits for nobody.
      while (turn.load(std::memory_order_acquire) != item / groups) std::this_thread::yield();
      finish(item, worker);
      turn.store(item / groups + 1, std::memory_order_release);
    });
  }

 private:
  Tensor memory_;
  int64_t shared_bytes_ = 0;
  int64_t num_workers_ = 1;
};

}  // namespace clof::host
