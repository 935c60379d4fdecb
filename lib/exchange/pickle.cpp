// SPDX-License-Identifier: MIT
#include "exchange/pickle.h"

#include "core/try.h"

#include <bit>
#include <cstring>
#include <map>
#include <string_view>

namespace mfres::pickle {

namespace {

/// Opcodes, named as in Python's pickletools.
enum Opcode : std::uint8_t {
    mark = '(',
    stop = '.',
    binfloat = 'G',
    binint = 'J',
    binint1 = 'K',
    binint2 = 'M',
    none = 'N',
    binpersid = 'Q',
    reduce = 'R',
    binunicode = 'X',
    empty_list = ']',
    append = 'a',
    build = 'b',
    global = 'c',
    appends = 'e',
    binget = 'h',
    long_binget = 'j',
    binput = 'q',
    long_binput = 'r',
    setitem = 's',
    tuple = 't',
    empty_tuple = ')',
    setitems = 'u',
    empty_dict = '}',
    proto = 0x80,
    tuple1 = 0x85,
    tuple2 = 0x86,
    tuple3 = 0x87,
    newtrue = 0x88,
    newfalse = 0x89,
    long1 = 0x8A,
    short_binunicode = 0x8C,
    stack_global = 0x93,
    memoize = 0x94,
    frame = 0x95,
};

struct StorageType {
    std::string_view global;
    Dtype dtype;
};

constexpr StorageType storage_types[] = {
    {"torch.FloatStorage", Dtype::f32},     {"torch.DoubleStorage", Dtype::f64}, {"torch.HalfStorage", Dtype::f16},
    {"torch.BFloat16Storage", Dtype::bf16}, {"torch.LongStorage", Dtype::i64},   {"torch.IntStorage", Dtype::i32},
    {"torch.ShortStorage", Dtype::i16},     {"torch.CharStorage", Dtype::i8},    {"torch.ByteStorage", Dtype::u8},
    {"torch.BoolStorage", Dtype::boolean},
};

constexpr std::string_view functions[] = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2",
                                          "torch._utils._rebuild_parameter"};

const StorageType* storage_type(std::string_view global_name) {
    for (const StorageType& type : storage_types)
        if (type.global == global_name)
            return &type;
    return nullptr;
}

Error invalid(const std::string& problem) {
    return {ErrorCode::model_header_invalid, text("the pickle ", problem), {}};
}

class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    Result<Document> run() {
        for (;;) {
            MFRES_TRY(const std::uint64_t opcode, number(1));
            if (opcode == stop)
                return finish();
            MFRES_CHECK(step(static_cast<std::uint8_t>(opcode)));
            if (document_.values.size() > max_values || stack_.size() > max_values)
                return Error{ErrorCode::memory_limit, text("the pickle has more than ", max_values, " values"), {}};
        }
    }

  private:
    Result<Document> finish() {
        if (stack_.size() != 1 || !marks_.empty())
            return invalid(text("ends with ", stack_.size(), " values instead of one"));
        document_.root = stack_[0];
        return std::move(document_);
    }

    // Bytes.

    Result<std::span<const std::byte>> take(std::uint64_t count) {
        if (count > bytes_.size() - position_)
            return Error{ErrorCode::model_truncated,
                         text("the pickle ends at byte ", bytes_.size(), " in the middle of a value"),
                         {}};
        const auto part = bytes_.subspan(position_, static_cast<std::size_t>(count));
        position_ += static_cast<std::size_t>(count);
        return part;
    }
    /// An unsigned little-endian integer.
    Result<std::uint64_t> number(std::size_t count) {
        MFRES_TRY(const auto part, take(count));
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < count; ++i)
            value |= std::to_integer<std::uint64_t>(part[i]) << (8 * i);
        return value;
    }
    Result<std::string> characters(std::uint64_t count) {
        if (count > max_text)
            return invalid(text("holds a text of ", count, " bytes"));
        MFRES_TRY(const auto part, take(count));
        return std::string(reinterpret_cast<const char*>(part.data()), part.size());
    }
    Result<std::string> line() {
        std::string all;
        for (;;) {
            MFRES_TRY(const std::uint64_t next, number(1));
            if (next == '\n')
                return all;
            if (all.size() >= max_text)
                return invalid("holds a name without an end");
            all += static_cast<char>(next);
        }
    }

    // The stack.

    Status push(Value value) {
        document_.values.push_back(std::move(value));
        stack_.push_back(static_cast<Handle>(document_.values.size() - 1));
        return {};
    }
    Result<Handle> pop() {
        const std::size_t floor = marks_.empty() ? 0 : marks_.back();
        if (stack_.size() <= floor)
            return invalid("takes a value from an empty stack");
        const Handle top = stack_.back();
        stack_.pop_back();
        return top;
    }
    Result<std::vector<Handle>> pop_to_mark() {
        if (marks_.empty())
            return invalid("refers to a mark that is not there");
        std::vector<Handle> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return items;
    }
    Result<Value*> top(Kind kind, const char* what) {
        const std::size_t floor = marks_.empty() ? 0 : marks_.back();
        if (stack_.size() <= floor || document_.values[stack_.back()].kind != kind)
            return invalid(text("adds to something that is not a ", what));
        return &document_.values[stack_.back()];
    }

    Status push_tuple(std::size_t count) {
        Value value{.kind = Kind::tuple};
        value.items.resize(count);
        for (std::size_t i = count; i-- > 0;) {
            MFRES_TRY(value.items[i], pop());
        }
        return push(std::move(value));
    }
    Status extend(Kind kind, const char* what, const std::vector<Handle>& items) {
        MFRES_TRY(Value * into, top(kind, what));
        if (kind == Kind::dictionary && items.size() % 2 != 0)
            return invalid("sets a key without a value");
        total_items_ += items.size();
        if (total_items_ > max_values)
            return Error{ErrorCode::memory_limit, text("the pickle has more than ", max_values, " values"), {}};
        into->items.insert(into->items.end(), items.begin(), items.end());
        return {};
    }

    Status remember(std::uint64_t key) {
        if (stack_.empty())
            return invalid("remembers a value that is not there");
        if (key > max_values)
            return invalid(text("remembers a value under number ", key));
        memo_[key] = stack_.back();
        return {};
    }
    Status recall(std::uint64_t key) {
        const auto found = memo_.find(key);
        if (found == memo_.end())
            return invalid(text("recalls value ", key, ", which was never remembered"));
        stack_.push_back(found->second);
        return {};
    }

    // Opcodes.

    Status step(std::uint8_t opcode) {
        switch (opcode) {
        case proto: return protocol();
        case frame: return skip(8);
        case mark: marks_.push_back(stack_.size()); return {};
        case none: return push({.kind = Kind::none});
        case newtrue: return push({.kind = Kind::boolean, .number = 1});
        case newfalse: return push({.kind = Kind::boolean, .number = 0});
        case binint1: return integer(1);
        case binint2: return integer(2);
        case binint: return integer(4);
        case long1: return long_integer();
        case binfloat: return skip_real();
        case binunicode: return string(4);
        case short_binunicode: return string(1);
        case empty_tuple: return push({.kind = Kind::tuple});
        case tuple1: return push_tuple(1);
        case tuple2: return push_tuple(2);
        case tuple3: return push_tuple(3);
        case tuple: return marked_tuple();
        case empty_list: return push({.kind = Kind::list});
        case empty_dict: return push({.kind = Kind::dictionary});
        case append: return append_one();
        case appends: return extend_marked(Kind::list, "list");
        case setitem: return set_one();
        case setitems: return extend_marked(Kind::dictionary, "dictionary");
        case binput: return memo(1, true);
        case long_binput: return memo(4, true);
        case memoize: return remember(memo_.size());
        case binget: return memo(1, false);
        case long_binget: return memo(4, false);
        case global: return global_by_lines();
        case stack_global: return global_from_stack();
        case binpersid: return persistent();
        case reduce: return call();
        case build: return set_state();
        default: break;
        }
        static constexpr char hex[] = "0123456789abcdef";
        return Error{ErrorCode::operation_unsupported,
                     text("the pickle uses opcode 0x", hex[opcode / 16], hex[opcode % 16], " at byte ", position_ - 1,
                          ", which dictionaries of tensors do not need"),
                     {}};
    }

    Status protocol() {
        MFRES_TRY(const std::uint64_t version, number(1));
        if (version < 2 || version > 4)
            return invalid(text("has protocol ", version, "; 2 to 4 are read"));
        return {};
    }
    Status skip(std::size_t count) {
        MFRES_CHECK(take(count));
        return {};
    }
    Status integer(std::size_t count) {
        MFRES_TRY(const std::uint64_t raw, number(count));
        const std::int64_t value =
            count == 4 ? std::int64_t{static_cast<std::int32_t>(raw)} : static_cast<std::int64_t>(raw);
        return push({.kind = Kind::integer, .number = value});
    }
    Status long_integer() {
        MFRES_TRY(const std::uint64_t count, number(1));
        if (count > 8)
            return invalid(text("holds an integer of ", count, " bytes"));
        MFRES_TRY(std::uint64_t raw, number(static_cast<std::size_t>(count)));
        if (count > 0 && count < 8 && (raw >> (8 * count - 1)) % 2 == 1)
            raw |= ~std::uint64_t{0} << (8 * count); // negative
        return push({.kind = Kind::integer, .number = static_cast<std::int64_t>(raw)});
    }
    Status skip_real() {
        MFRES_CHECK(take(8));
        return push({.kind = Kind::real}); // learning rates and the like, whose values are not used
    }
    Status string(std::size_t length_bytes) {
        MFRES_TRY(const std::uint64_t length, number(length_bytes));
        MFRES_TRY(std::string characters_, characters(length));
        return push({.kind = Kind::text, .text = std::move(characters_)});
    }
    Status marked_tuple() {
        MFRES_TRY(std::vector<Handle> items, pop_to_mark());
        return push({.kind = Kind::tuple, .items = std::move(items)});
    }
    Status append_one() {
        MFRES_TRY(const Handle item, pop());
        return extend(Kind::list, "list", {item});
    }
    Status set_one() {
        MFRES_TRY(const Handle value, pop());
        MFRES_TRY(const Handle key, pop());
        return extend(Kind::dictionary, "dictionary", {key, value});
    }
    Status extend_marked(Kind kind, const char* what) {
        MFRES_TRY(const std::vector<Handle> items, pop_to_mark());
        return extend(kind, what, items);
    }
    Status memo(std::size_t key_bytes, bool put) {
        MFRES_TRY(const std::uint64_t key, number(key_bytes));
        return put ? remember(key) : recall(key);
    }

    Status push_global(const std::string& name) {
        bool known = storage_type(name) != nullptr;
        for (const std::string_view function : functions)
            known = known || name == function;
        if (!known)
            return Error{ErrorCode::operation_unsupported,
                         text("the pickle calls for ", printable(name),
                              ", and nothing of a pickle is executed here. If it is a whole module, save its weights "
                              "alone where it was made, in Python: torch.save(model.state_dict(), \"weights.pth\")"),
                         {}};
        return push({.kind = Kind::global, .text = name});
    }
    Status global_by_lines() {
        MFRES_TRY(const std::string module, line());
        MFRES_TRY(const std::string name, line());
        return push_global(module + "." + name);
    }
    Status global_from_stack() {
        MFRES_TRY(const Handle name, pop());
        MFRES_TRY(const Handle module, pop());
        if (document_.at(name).kind != Kind::text || document_.at(module).kind != Kind::text)
            return invalid("names a global by something that is not text");
        return push_global(document_.at(module).text + "." + document_.at(name).text);
    }

    /// PyTorch's persistent ids: ('storage', type, key, location, number of elements).
    Status persistent() {
        MFRES_TRY(const Handle id, pop());
        const Value& tuple_value = document_.at(id);
        const bool five = tuple_value.kind == Kind::tuple && tuple_value.items.size() == 5;
        if (!five || document_.at(tuple_value.items[0]).text != "storage")
            return invalid("has a persistent id that is not a storage");
        const Value& type = document_.at(tuple_value.items[1]);
        const Value& key = document_.at(tuple_value.items[2]);
        const Value& count = document_.at(tuple_value.items[4]);
        const StorageType* known = type.kind == Kind::global ? storage_type(type.text) : nullptr;
        if (known == nullptr || key.kind != Kind::text || count.kind != Kind::integer || count.number < 0)
            return invalid("describes a storage by the wrong values");
        return push({.kind = Kind::storage, .number = count.number, .text = key.text, .dtype = known->dtype});
    }

    Status call() {
        MFRES_TRY(const Handle arguments, pop());
        MFRES_TRY(const Handle function, pop());
        if (document_.at(function).kind != Kind::global || document_.at(arguments).kind != Kind::tuple)
            return invalid("calls something that is not a function");
        const std::string& name = document_.at(function).text;
        const std::vector<Handle>& given = document_.at(arguments).items;
        if (name == "collections.OrderedDict" && given.empty())
            return push({.kind = Kind::dictionary});
        if (name == "torch._utils._rebuild_tensor_v2" && given.size() >= 4)
            return tensor({given.begin(), given.begin() + 4});
        if (name == "torch._utils._rebuild_parameter" && !given.empty() &&
            document_.at(given[0]).kind == Kind::tensor) {
            stack_.push_back(given[0]);
            return {};
        }
        return invalid(text("calls ", name, " with ", given.size(), " arguments of the wrong kinds"));
    }
    Status tensor(std::vector<Handle> parts) {
        constexpr Kind kinds[] = {Kind::storage, Kind::integer, Kind::tuple, Kind::tuple};
        for (std::size_t i = 0; i < parts.size(); ++i)
            if (document_.at(parts[i]).kind != kinds[i])
                return invalid("builds a tensor from values of the wrong kinds");
        return push({.kind = Kind::tensor, .items = std::move(parts)});
    }
    /// A state_dict has its module versions as an attribute, which is ignored.
    Status set_state() {
        MFRES_CHECK(pop());
        MFRES_CHECK(top(Kind::dictionary, "dictionary"));
        return {};
    }

    std::span<const std::byte> bytes_;
    std::size_t position_ = 0;
    Document document_;
    std::vector<Handle> stack_;
    std::vector<std::size_t> marks_;
    std::map<std::uint64_t, Handle> memo_;
    std::size_t total_items_ = 0;
};

} // namespace

Result<Document> parse(std::span<const std::byte> bytes) {
    return Reader(bytes).run();
}

} // namespace mfres::pickle
