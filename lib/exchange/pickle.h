// SPDX-License-Identifier: MIT
// The subset of Python's pickle format that dictionaries of tensors use. Nothing is executed: opcodes build plain
// values, and the few functions that PyTorch refers to for rebuilding tensors become values, too.
#pragma once

#include "model/safetensors.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mfres::pickle {

/// Index into Document::values.
using Handle = std::uint32_t;

enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    text,
    tuple,
    list,
    dictionary, ///< also collections.OrderedDict
    global,     ///< one of the functions and types below, by its name in `text`
    storage,    ///< `text` is its key, `dtype` its type, `number` how many elements it has
    tensor,     ///< items: storage, offset, size (tuple), stride (tuple)
};

struct Value {
    Kind kind = Kind::none;
    std::int64_t number = 0;
    std::string text;
    Dtype dtype = Dtype::f32;
    /// The items of a tuple or list; key, value, key, value, ... of a dictionary.
    std::vector<Handle> items;
};

/// All values of a pickle. Values refer to each other by handle, so that nested values need no recursion.
struct Document {
    std::vector<Value> values;
    Handle root = 0;

    const Value& at(Handle handle) const { return values[handle]; }
};

/// Limits on the number of values and the length of texts, far above what a network needs.
inline constexpr std::size_t max_values = 1'000'000;
inline constexpr std::size_t max_text = 10'000;

/// Reads a pickle of protocol 2 to 4 that ends at its STOP. Errors, `where` is empty: operation_unsupported (an opcode
/// or a global that dictionaries of tensors do not need; named), model_truncated, model_header_invalid (inconsistent),
/// memory_limit (more than max_values).
Result<Document> parse(std::span<const std::byte> bytes);

} // namespace mfres::pickle
