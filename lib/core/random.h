// SPDX-License-Identifier: MIT
// Seeded random numbers that are equal on every platform and compiler (std:: distributions are not).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>

namespace mfres {

/// SplitMix64 (Steele, Lea, Flood 2014; public domain reference by Vigna): one 64-bit state, passes BigCrush, and
/// every seed is valid. `fork` gives an independent stream, so that parallel work needs no shared state.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31U);
    }

    /// Uniform in [0, 1), 53 random bits.
    double uniform() { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }
    /// Uniform in [low, high).
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    /// Uniform integer in [0, bound); precondition bound > 0. The bias for bounds below 2^32 is under 2^-32.
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }
    /// Index of an array of `size` elements, likewise.
    std::size_t index(std::size_t size) { return static_cast<std::size_t>(below(size)); }

    /// Standard normal by Box-Muller; draws two uniforms every call, so the stream position never depends on history.
    double normal() {
        const double u = 1.0 - uniform();
        const double v = uniform();
        return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
    }

    Random fork(std::uint64_t stream) const { return Random(Random(state_ ^ (stream * 0xD1342543DE82EF95U)).next()); }

    std::uint64_t state() const { return state_; }

  private:
    std::uint64_t state_;
};

/// Writes standard normal values, the same for the same seed.
inline void fill_normal(std::span<float> values, std::uint64_t seed) {
    Random random(seed);
    for (float& value : values)
        value = static_cast<float>(random.normal());
}

} // namespace mfres
