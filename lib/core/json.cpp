// SPDX-License-Identifier: MIT
#include "core/json.h"

#include "core/try.h"

#include <algorithm>
#include <optional>
#include <set>
#include <vector>

namespace mfres {

namespace {

/// "line 3, column 7" of a byte offset that counts from 1.
std::string position(std::string_view source, std::size_t offset) {
    const std::string_view before = source.substr(0, std::min(source.size(), offset == 0 ? 0 : offset - 1));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t start = before.rfind('\n');
    const std::size_t column = start == std::string_view::npos ? before.size() + 1 : before.size() - start;
    return text("line ", line, ", column ", column);
}

/// Sees the text before any value is built, and stops at the first thing a strict reader rejects.
class StrictReader final : public nlohmann::json_sax<Json> {
  public:
    StrictReader(std::string_view source, std::string_view what, std::size_t depth)
        : source_(source), what_(what), depth_(depth) {}
    const std::optional<Error>& error() const { return error_; }

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_array(std::size_t) override { return open(); }
    bool end_array() override { return close(); }
    bool start_object(std::size_t) override { return open(); }
    bool end_object() override { return close(); }

    bool key(string_t& name) override {
        if (keys_.back().insert(name).second)
            return true;
        const std::string token = "/" + json_pointer_token(name);
        error_ =
            Error{ErrorCode::json_invalid,
                  text("key ", json_excerpt(name), " stands more than once in the same object of the ", what_), token};
        return false;
    }

    bool parse_error(std::size_t offset, const std::string& token, const nlohmann::detail::exception&) override {
        error_ = Error{
            ErrorCode::json_invalid,
            text("the ", what_, " is not JSON: unexpected ", json_excerpt(token), " at ", position(source_, offset)),
            position(source_, offset)};
        return false;
    }

  private:
    bool open() {
        keys_.emplace_back();
        if (keys_.size() <= depth_)
            return true;
        error_ = Error{
            ErrorCode::json_invalid, text("the ", what_, "'s JSON is nested deeper than ", depth_, " levels"), {}};
        return false;
    }
    bool close() {
        keys_.pop_back();
        return true;
    }

    std::string_view source_;
    std::string_view what_;
    std::size_t depth_;
    std::vector<std::set<std::string>> keys_; ///< of every object or array that is open
    std::optional<Error> error_;
};

} // namespace

Result<Json> parse_json(std::string_view source, std::string_view what, const JsonLimits& limits) {
    if (source.size() > limits.bytes)
        return Error{
            ErrorCode::json_invalid,
            text("the ", what, "'s JSON has ", source.size(), " bytes, more than the ", limits.bytes, " allowed"),
            {}};
    // The parser would take a NUL for the end of the text and ignore what follows.
    if (const std::size_t nul = source.find('\0'); nul != std::string_view::npos)
        return Error{ErrorCode::json_invalid,
                     text("the ", what, " is not JSON: there is a NUL byte at ", position(source, nul + 1)),
                     position(source, nul + 1)};
    StrictReader reader(source, what, limits.depth);
    if (!Json::sax_parse(source.begin(), source.end(), &reader))
        return reader.error().value_or(Error{ErrorCode::json_invalid, text("the ", what, " is not JSON"), {}});
    return Json::parse(source.begin(), source.end(), nullptr, false);
}

std::string json_excerpt(const Json& value) {
    std::string dumped = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (dumped.size() > 60)
        dumped = dumped.substr(0, 57) + "...";
    return dumped;
}

std::string json_pointer_token(const std::string& key) {
    std::string token;
    for (const char c : key)
        token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return token;
}

} // namespace mfres
