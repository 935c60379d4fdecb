// SPDX-License-Identifier: MIT
#include "train/checkpoint.h"

#include "core/file.h"
#include "core/json.h"
#include "core/little_endian.h"
#include "core/try.h"
#include "model/safetensors.h"

#include <zlib.h>

#include <array>
#include <cstring>
#include <map>
#include <new>
#include <span>

namespace mfres {

namespace {

constexpr std::string_view magic = "MFRESCKP";
constexpr std::uint32_t version = 1;
constexpr std::size_t name_bytes = 16;
constexpr std::size_t entry_bytes = name_bytes + sizeof(std::uint64_t) + sizeof(std::uint32_t);
constexpr std::size_t most_sections = 16;
constexpr std::uint64_t most_bytes = std::uint64_t{16} << 30U;

using Bytes = std::vector<std::byte>;
using Sections = std::map<std::string, Bytes>;

std::uint32_t crc32_of(std::span<const std::byte> bytes) {
    return static_cast<std::uint32_t>(
        crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<z_size_t>(bytes.size())));
}

template <typename Integer>
void append(Bytes& bytes, Integer value) {
    for (std::size_t i = 0; i < sizeof(Integer); ++i)
        bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xFFU));
}

/// Precondition: the bytes exist.
template <typename Integer>
Integer integer_at(std::span<const std::byte> bytes, std::size_t offset) {
    return from_little_endian<Integer>(bytes.data() + offset);
}

Bytes to_bytes(std::string_view text_value) {
    const auto bytes = std::as_bytes(std::span(text_value));
    return {bytes.begin(), bytes.end()};
}

// ---- the container --------------------------------------------------------------------------------------------------

Bytes pack(const Sections& sections) {
    Bytes bytes = to_bytes(magic);
    append(bytes, version);
    append(bytes, static_cast<std::uint32_t>(sections.size()));
    for (const auto& [name, content] : sections) {
        Bytes padded = to_bytes(name);
        padded.resize(name_bytes);
        bytes.insert(bytes.end(), padded.begin(), padded.end());
        append(bytes, static_cast<std::uint64_t>(content.size()));
        append(bytes, crc32_of(content));
    }
    append(bytes, crc32_of(bytes));
    for (const auto& [name, content] : sections)
        bytes.insert(bytes.end(), content.begin(), content.end());
    return bytes;
}

/// A lack of memory says nothing about a file: it is no reason to use another one.
template <typename Value>
bool out_of_memory(const Result<Value>& result) {
    return !result && result.error().code == ErrorCode::memory_limit;
}

Error damaged(const std::string& path, const std::string& problem) {
    return {ErrorCode::checkpoint_damaged, text(path, " is not a sound checkpoint: ", problem), path};
}

Result<Sections> unpack(std::span<const std::byte> bytes, const std::string& path) {
    const std::size_t fixed = magic.size() + 2 * sizeof(std::uint32_t);
    if (bytes.size() < fixed)
        return damaged(path, text("it has ", bytes.size(), " bytes, less than a header"));
    if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0)
        return damaged(path, "it does not start with MFRESCKP");
    const auto found_version = integer_at<std::uint32_t>(bytes, magic.size());
    const auto count = integer_at<std::uint32_t>(bytes, magic.size() + sizeof(std::uint32_t));
    if (count > most_sections)
        return damaged(path, text("it claims ", count, " sections, more than ", most_sections));
    const std::size_t table_end = fixed + count * entry_bytes;
    std::size_t offset = table_end + sizeof(std::uint32_t);
    if (bytes.size() < offset)
        return damaged(path, text("it has ", bytes.size(), " bytes, its header takes ", offset));
    if (crc32_of(bytes.first(table_end)) != integer_at<std::uint32_t>(bytes, table_end))
        return damaged(path, "its header does not match its CRC-32");
    if (found_version != version)
        return damaged(path, text("it has format version ", found_version, ", this program reads ", version));

    Sections sections;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t entry = fixed + i * entry_bytes;
        std::array<char, name_bytes + 1> name{};
        std::memcpy(name.data(), bytes.data() + entry, name_bytes);
        const auto length = integer_at<std::uint64_t>(bytes, entry + name_bytes);
        if (length > bytes.size() - offset)
            return damaged(path, text("section ", name.data(), " needs ", length, " bytes, ", bytes.size() - offset,
                                      " are left: the file is cut short"));
        const auto content = bytes.subspan(offset, static_cast<std::size_t>(length));
        if (crc32_of(content) != integer_at<std::uint32_t>(bytes, entry + name_bytes + sizeof(std::uint64_t)))
            return damaged(path, text("section ", name.data(), " does not match its CRC-32"));
        sections.emplace(name.data(), Bytes(content.begin(), content.end()));
        offset += content.size();
    }
    if (offset != bytes.size())
        return damaged(path, text(bytes.size() - offset, " bytes follow its last section"));
    return sections;
}

// ---- sections -------------------------------------------------------------------------------------------------------

Result<Bytes> encode_weights(const Weights& weights, std::string_view what) {
    std::map<std::string, TensorToWrite, std::less<>> tensors;
    for (const auto& [name, tensor] : weights)
        tensors.emplace(name, TensorToWrite{&tensor, Dtype::f32});
    auto bytes = encode_safetensors(tensors, {});
    if (!bytes && bytes.error().code == ErrorCode::model_not_finite)
        return Error{ErrorCode::training_diverged, text("the ", what, " cannot be saved: ", bytes.error().message),
                     std::string(what)};
    return bytes;
}

Json to_json(const OpenRow& row) {
    return {{"steps", row.steps},
            {"loss", row.loss},
            {"gradient_norm", row.gradient_norm},
            {"learning_rate", row.learning_rate},
            {"seconds", row.seconds},
            {"waited", row.waited},
            {"skipped", row.skipped}};
}

OpenRow open_row_from(const Json& object) {
    return {object.at("steps").get<std::int64_t>(),   object.at("loss").get<double>(),
            object.at("gradient_norm").get<double>(), object.at("learning_rate").get<double>(),
            object.at("seconds").get<double>(),       object.at("waited").get<double>(),
            object.value("skipped", std::int64_t{0})};
}

Json to_json(const TrainRow& row) {
    Json values = {row.step,      row.loss, row.learning_rate, row.gradient_norm, row.seconds, row.voxels_per_second,
                   row.wait_share};
    if (row.skipped > 0)
        values.push_back(row.skipped);
    if (row.dice)
        values.push_back(*row.dice);
    return values;
}

TrainRow row_from(const Json& values) {
    TrainRow row{values.at(0).get<std::int64_t>(),
                 values.at(1).get<double>(),
                 values.at(2).get<double>(),
                 values.at(3).get<double>(),
                 values.at(4).get<double>(),
                 values.at(5).get<double>(),
                 values.at(6).get<double>(),
                 std::nullopt,
                 0};
    for (std::size_t i = 7; i < values.size(); ++i) // optional values of a row
        if (values[i].is_array())
            row.dice = values[i].get<RegionDice>();
        else
            row.skipped = values[i].get<std::int64_t>();
    return row;
}

Json to_json(const Validation& validation) {
    Json cases = Json::array();
    for (const ValidationCase& entry : validation.cases)
        cases.push_back({entry.id, entry.dice, entry.site});
    return {{"step", validation.step},
            {"mean", validation.mean},
            {"cases", std::move(cases)},
            {"seconds", validation.seconds}};
}

Validation validation_from(const Json& object) {
    Validation validation;
    validation.step = object.at("step").get<std::int64_t>();
    validation.mean = object.at("mean").get<RegionDice>();
    validation.seconds = object.at("seconds").get<double>();
    for (const Json& entry : object.at("cases"))
        validation.cases.push_back({entry.at(0).get<std::string>(), entry.at(1).get<RegionDice>(),
                                    entry.size() > 2 ? entry[2].get<std::string>() : ""}); // older files have no site
    return validation;
}

Json to_json(const std::optional<LossScaling>& scaling) {
    return scaling ? Json{{"scale", scaling->scale}, {"good_steps", scaling->good_steps}} : Json();
}

/// As everything here, missing in files from before there was one.
Result<std::optional<LossScaling>> loss_scaling_from(const Json& object) {
    const Json found = object.value("loss_scaling", Json());
    if (found.is_null())
        return std::optional<LossScaling>();
    const LossScaling scaling{found.at("scale").get<double>(), found.at("good_steps").get<std::int64_t>()};
    MFRES_CHECK(check_loss_scaling(scaling));
    return std::optional(scaling);
}

Json state_json(const Checkpoint& checkpoint) {
    return {{"recipe", to_json(checkpoint.recipe)},
            {"step", checkpoint.step},
            {"epoch", checkpoint.epoch},
            {"data_fingerprint", checkpoint.data_fingerprint},
            {"validation_fingerprint", checkpoint.validation_fingerprint},
            {"data", to_json(checkpoint.data)},
            {"backend", checkpoint.backend},
            {"threads", checkpoint.threads},
            {"ranks", checkpoint.ranks},
            {"seconds", checkpoint.seconds},
            {"skipped", checkpoint.skipped},
            {"skipped_in_row", checkpoint.skipped_in_row},
            {"loss_scaling", to_json(checkpoint.state.loss_scaling)},
            {"open_row", to_json(checkpoint.open_row)},
            {"best", checkpoint.best ? Json(*checkpoint.best) : Json()}};
}

Json history_json(const Checkpoint& checkpoint) {
    Json rows = Json::array();
    for (const TrainRow& row : checkpoint.rows)
        rows.push_back(to_json(row));
    Json validations = Json::array();
    for (const Validation& validation : checkpoint.validations)
        validations.push_back(to_json(validation));
    return {{"rows", std::move(rows)}, {"validations", std::move(validations)}};
}

/// Throws Json::exception where the object is not what state_json wrote.
Status read_state(const Json& object, Checkpoint& checkpoint) {
    MFRES_TRY(checkpoint.recipe, parse_recipe(object.at("recipe").dump()));
    checkpoint.step = object.at("step").get<std::int64_t>();
    checkpoint.epoch = object.at("epoch").get<double>();
    checkpoint.data_fingerprint = object.at("data_fingerprint").get<std::string>();
    checkpoint.validation_fingerprint = object.at("validation_fingerprint").get<std::string>();
    if (object.contains("data"))
        checkpoint.data = run_data_from(object["data"]);
    checkpoint.backend = object.at("backend").get<std::string>();
    checkpoint.threads = object.at("threads").get<int>();
    checkpoint.ranks = object.value("ranks", 1); // files from before there were several
    checkpoint.seconds = object.at("seconds").get<double>();
    checkpoint.skipped = object.value("skipped", std::int64_t{0});
    checkpoint.skipped_in_row = object.value("skipped_in_row", std::int64_t{0});
    MFRES_TRY(checkpoint.state.loss_scaling, loss_scaling_from(object));
    checkpoint.open_row = open_row_from(object.at("open_row"));
    if (!object.at("best").is_null())
        checkpoint.best = object.at("best").get<std::size_t>();
    return {};
}

/// Likewise for history_json.
void read_history(const Json& object, Checkpoint& checkpoint) {
    for (const Json& row : object.at("rows"))
        checkpoint.rows.push_back(row_from(row));
    for (const Json& validation : object.at("validations"))
        checkpoint.validations.push_back(validation_from(validation));
}

Result<Json> parse_section(const Sections& sections, const std::string& name) {
    const Bytes& bytes = sections.at(name);
    return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "section " + name, record_limits);
}

Result<Weights> decode_weights(Sections& sections, const std::string& name, const std::string& path) {
    const auto found = sections.find(name);
    if (found == sections.end())
        return Weights();
    MFRES_TRY(const SafetensorsFile file, parse_safetensors(std::move(found->second), text(path, ", section ", name)));
    return decode_tensors(file);
}

Result<Checkpoint> read_sections(Sections& sections, const std::string& path) {
    Checkpoint checkpoint;
    MFRES_TRY(const Json state, parse_section(sections, "state"));
    MFRES_CHECK(read_state(state, checkpoint));
    MFRES_TRY(const Json history, parse_section(sections, "history"));
    read_history(history, checkpoint);
    MFRES_TRY(checkpoint.state.weights, decode_weights(sections, "weights", path));
    MFRES_TRY(checkpoint.state.first_moment, decode_weights(sections, "first_moment", path));
    MFRES_TRY(checkpoint.state.second_moment, decode_weights(sections, "second_moment", path));
    MFRES_TRY(checkpoint.state.largest_second_moment, decode_weights(sections, "largest_moment", path));
    MFRES_TRY(checkpoint.average, decode_weights(sections, "average", path));
    if (checkpoint.best && *checkpoint.best >= checkpoint.validations.size())
        return damaged(path, "its best validation is not among its validations");
    return checkpoint;
}

} // namespace

Result<std::vector<std::byte>> encode_checkpoint(const Checkpoint& checkpoint) {
    Sections sections;
    sections["state"] = to_bytes(state_json(checkpoint).dump());
    sections["history"] = to_bytes(history_json(checkpoint).dump());
    MFRES_TRY(sections["weights"], encode_weights(checkpoint.state.weights, "weights"));
    MFRES_TRY(sections["first_moment"], encode_weights(checkpoint.state.first_moment, "first moments"));
    MFRES_TRY(sections["second_moment"], encode_weights(checkpoint.state.second_moment, "second moments"));
    if (!checkpoint.state.largest_second_moment.empty()) {
        MFRES_TRY(sections["largest_moment"],
                  encode_weights(checkpoint.state.largest_second_moment, "largest second moments"));
    }
    if (!checkpoint.average.empty()) {
        MFRES_TRY(sections["average"], encode_weights(checkpoint.average, "averaged weights"));
    }
    return pack(sections);
}

Result<Checkpoint> decode_checkpoint(std::span<const std::byte> bytes, const std::string& path) {
    MFRES_TRY(Sections sections, unpack(bytes, path));
    try {
        auto checkpoint = read_sections(sections, path);
        if (checkpoint || out_of_memory(checkpoint))
            return checkpoint;
        return damaged(path, checkpoint.error().message);
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& error) { // thrown for a missing key or another type
        return damaged(path, error.what());
    }
}

Result<Checkpoint> read_checkpoint(const std::filesystem::path& path) {
    MFRES_TRY(const auto bytes, read_file_with_magic(path, magic, most_bytes, ErrorCode::checkpoint_damaged));
    return decode_checkpoint(bytes, path.string());
}

Status write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
    MFRES_TRY(const auto bytes, encode_checkpoint(checkpoint));
    return write_file_atomically(path, bytes);
}

// ---- the folder -----------------------------------------------------------------------------------------------------

CheckpointFolder::CheckpointFolder(std::filesystem::path folder)
    : folder_(std::move(folder)), last_(folder_ / "last.ckpt"), previous_(folder_ / "previous.ckpt") {}

Result<CheckpointFolder::Found> CheckpointFolder::load() {
    auto last = read_checkpoint(last_);
    if (out_of_memory(last))
        return std::move(last).error();
    last_is_sound_ = last.ok();
    if (last)
        return Found{std::move(last).value(), {}};
    auto previous = read_checkpoint(previous_);
    if (out_of_memory(previous))
        return std::move(previous).error();
    if (previous) {
        std::string warning = text("went back to ", previous_.string(), " (step ", previous->step,
                                   ") because the newest checkpoint cannot be used: ", last.error().message);
        return Found{std::move(previous).value(), std::move(warning)};
    }
    const auto absent = [](const Error& error) { return error.code == ErrorCode::file_not_found; };
    if (absent(last.error()) && absent(previous.error()))
        return Error{ErrorCode::file_not_found,
                     text("there is no checkpoint in ", folder_.string(), ", neither last.ckpt nor previous.ckpt"),
                     folder_.string()};
    return Error{ErrorCode::checkpoint_damaged,
                 text("no checkpoint of ", folder_.string(), " can be used: ", last.error().message, "; ",
                      previous.error().message),
                 folder_.string()};
}

Status CheckpointFolder::keep_last_as_previous() const {
    // A hard link first: at every moment there is a last or a previous checkpoint.
    const auto link = folder_ / ".previous.ckpt.link";
    std::error_code problem;
    std::filesystem::remove(link, problem);
    std::filesystem::create_hard_link(last_, link, problem);
    // Without hard links last.ckpt is missing for a moment, and previous.ckpt is the one that is found.
    std::filesystem::rename(problem ? last_ : link, previous_, problem);
    if (problem) {
        std::error_code ignored;
        std::filesystem::remove(link, ignored);
        return Error{ErrorCode::file_write,
                     text("cannot keep ", last_.string(), " as ", previous_.string(), ": ", problem.message()),
                     previous_.string()};
    }
    return {};
}

Status CheckpointFolder::save(const Checkpoint& checkpoint) {
    MFRES_TRY(const auto bytes, encode_checkpoint(checkpoint));
    MFRES_TRY(PendingFile pending, PendingFile::write(last_, bytes, true));
    if (!last_is_sound_) {
        const auto last = read_checkpoint(last_);
        if (out_of_memory(last))
            return last.error();
        last_is_sound_ = last.ok();
    }
    if (*last_is_sound_)
        MFRES_CHECK(keep_last_as_previous());
    MFRES_CHECK(pending.commit());
    last_is_sound_ = true;
    return {};
}

void CheckpointFolder::remove_leftovers() const {
    constexpr std::array<std::string_view, 3> own = {".last.ckpt.", ".best.ckpt.", ".previous.ckpt.link"};
    remove_beginning_with(folder_, own);
}

} // namespace mfres
