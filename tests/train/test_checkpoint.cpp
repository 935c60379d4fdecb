// SPDX-License-Identifier: MIT
// Checkpoints: nothing is lost, nothing damaged is believed, and a killed process leaves one behind.
#include "core/file.h"
#include "core/random.h"
#include "support/catch.h"
#include "support/child.h"
#include "support/paths.h"
#include "train/checkpoint.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace mfres {

namespace {

Tensor random_values(const Shape& shape, Random& random) {
    Tensor tensor(shape);
    for (float& value : tensor.values())
        value = static_cast<float>(random.normal() * std::exp(random.uniform(-60, 20)));
    return tensor;
}

/// Every member set to something a wrong reader would notice; `floats` sets the size.
Checkpoint sample(std::int64_t step, std::int64_t floats = 20) {
    Random random(static_cast<std::uint64_t>(step) + 1);
    Checkpoint checkpoint;
    auto recipe = parse_recipe(R"({"steps": 1000, "ema": 0.99, "amsgrad": true, "learning_rate": 0.0123456789})");
    REQUIRE_OK(recipe);
    checkpoint.recipe = std::move(recipe).value();
    checkpoint.step = step;
    checkpoint.epoch = 0.1 * static_cast<double>(step);
    checkpoint.data_fingerprint = std::string(64, 'a');
    checkpoint.validation_fingerprint = std::string(64, 'b');
    checkpoint.data.train = {{"train.mfcache", "/data/more.mfcache"}, std::string(64, 'c')};
    checkpoint.data.validation = {{"val.mfcache"}, ""};
    checkpoint.data.fold = "2/5";
    checkpoint.data.same_patient = {{"a", "b"}};
    checkpoint.data.sites = {{"a", "CBICA"}};
    checkpoint.backend = "reference";
    checkpoint.threads = 3;
    checkpoint.seconds = random.uniform();
    for (Weights* weights : {&checkpoint.state.weights, &checkpoint.state.first_moment, &checkpoint.state.second_moment,
                             &checkpoint.state.largest_second_moment, &checkpoint.average}) {
        weights->emplace("conv.weight", random_values({floats, 2, 1, 1, 3}, random));
        weights->emplace("norm.bias", random_values({7}, random));
    }
    checkpoint.open_row = {3, random.uniform(), random.uniform(), random.uniform(), random.uniform(), random.uniform(),
                           2};
    checkpoint.rows = {{10, random.uniform(), 1e-3, random.uniform(), 1.5, 1e6, 0.25, std::nullopt},
                       {20, random.uniform(), 9e-4, random.uniform(), 3.5, 1e6, 0.5, RegionDice{0.1, 0.2, 1.0 / 3}}};
    checkpoint.validations = {{10, {0.5, 0.25, 0.125}, {{"a, \"b\" \xC3\xA9", {0.5, 0.25, 0.125}, "Graz"}}, 2.5},
                              {20, {0.1, 0.2, 1.0 / 3}, {}, 0.5}};
    checkpoint.rows[0].skipped = 4;
    checkpoint.rows[1].skipped = 1;
    checkpoint.skipped = 7;
    checkpoint.skipped_in_row = 3;
    checkpoint.state.loss_scaling = LossScaling{2048.0, 117};
    checkpoint.best = 0;
    return checkpoint;
}

bool same(const Weights& a, const Weights& b) {
    if (a.size() != b.size())
        return false;
    for (const auto& [name, tensor] : a) {
        const auto other = b.find(name);
        if (other == b.end() || !(other->second.shape() == tensor.shape()))
            return false;
        for (std::int64_t i = 0; i < tensor.elements(); ++i)
            if (tensor[i] != other->second[i])
                return false;
    }
    return true;
}

void check_same(const Checkpoint& a, const Checkpoint& b) {
    CHECK(to_json(a.recipe) == to_json(b.recipe));
    CHECK(a.step == b.step);
    CHECK(a.epoch == b.epoch);
    CHECK(a.data_fingerprint == b.data_fingerprint);
    CHECK(a.data == b.data);
    CHECK(a.validation_fingerprint == b.validation_fingerprint);
    CHECK(a.backend == b.backend);
    CHECK(a.threads == b.threads);
    CHECK(a.seconds == b.seconds);
    CHECK(a.skipped == b.skipped);
    CHECK(a.skipped_in_row == b.skipped_in_row);
    CHECK(a.state.loss_scaling == b.state.loss_scaling);
    CHECK(same(a.state.weights, b.state.weights));
    CHECK(same(a.state.first_moment, b.state.first_moment));
    CHECK(same(a.state.second_moment, b.state.second_moment));
    CHECK(same(a.state.largest_second_moment, b.state.largest_second_moment));
    CHECK(same(a.average, b.average));
    CHECK(a.open_row == b.open_row);
    REQUIRE(a.rows.size() == b.rows.size());
    for (std::size_t i = 0; i < a.rows.size(); ++i) {
        CHECK(a.rows[i].step == b.rows[i].step);
        CHECK(a.rows[i].loss == b.rows[i].loss);
        CHECK(a.rows[i].learning_rate == b.rows[i].learning_rate);
        CHECK(a.rows[i].gradient_norm == b.rows[i].gradient_norm);
        CHECK(a.rows[i].seconds == b.rows[i].seconds);
        CHECK(a.rows[i].voxels_per_second == b.rows[i].voxels_per_second);
        CHECK(a.rows[i].wait_share == b.rows[i].wait_share);
        CHECK(a.rows[i].dice == b.rows[i].dice);
        CHECK(a.rows[i].skipped == b.rows[i].skipped);
    }
    REQUIRE(a.validations.size() == b.validations.size());
    for (std::size_t i = 0; i < a.validations.size(); ++i) {
        CHECK(a.validations[i].step == b.validations[i].step);
        CHECK(a.validations[i].mean == b.validations[i].mean);
        CHECK(a.validations[i].seconds == b.validations[i].seconds);
        REQUIRE(a.validations[i].cases.size() == b.validations[i].cases.size());
        for (std::size_t c = 0; c < a.validations[i].cases.size(); ++c) {
            CHECK(a.validations[i].cases[c].id == b.validations[i].cases[c].id);
            CHECK(a.validations[i].cases[c].dice == b.validations[i].cases[c].dice);
        }
    }
    CHECK(a.best == b.best);
}

std::vector<std::byte> encoded(const Checkpoint& checkpoint) {
    auto bytes = encode_checkpoint(checkpoint);
    REQUIRE_OK(bytes);
    return std::move(bytes).value();
}

std::uint32_t crc32(std::span<const std::byte> bytes) {
    std::uint32_t crc = 0xFFFFFFFFU;
    for (const std::byte byte : bytes) {
        crc ^= std::to_integer<std::uint32_t>(byte);
        for (int bit = 0; bit < 8; ++bit)
            crc = crc >> 1U ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
    }
    return ~crc;
}

/// The file with words of its JSON replaced by others of the same length, and sound again.
std::vector<std::byte> with_words(std::vector<std::byte> bytes,
                                  const std::vector<std::pair<std::string, std::string>>& words) {
    std::string content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const auto& [from, to] : words) {
        REQUIRE(from.size() == to.size());
        for (std::size_t at = content.find(from); at != std::string::npos; at = content.find(from))
            content.replace(at, from.size(), to);
    }
    std::memcpy(bytes.data(), content.data(), content.size());
    const auto put = [&](std::size_t at, std::uint32_t value) {
        std::memcpy(bytes.data() + at, &value, sizeof(value));
    };
    std::uint32_t count = 0;
    std::memcpy(&count, bytes.data() + 12, sizeof(count));
    const std::size_t table_end = 16 + std::size_t{count} * 28;
    std::size_t offset = table_end + 4;
    for (std::size_t entry = 16; entry < table_end; entry += 28) {
        std::uint64_t length = 0;
        std::memcpy(&length, bytes.data() + entry + 16, sizeof(length));
        put(entry + 24, crc32(std::span(bytes).subspan(offset, static_cast<std::size_t>(length))));
        offset += static_cast<std::size_t>(length);
    }
    put(table_end, crc32(std::span(bytes).first(table_end)));
    return bytes;
}

void overwrite(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

} // namespace

TEST_CASE("a checkpoint reads back bit for bit") {
    const Checkpoint written = sample(42);
    const auto read = decode_checkpoint(encoded(written), "memory");
    REQUIRE_OK(read);
    check_same(*read, written);

    Checkpoint plain = sample(7);
    plain.state.loss_scaling.reset();
    plain.average.clear();
    plain.state.largest_second_moment.clear();
    plain.best.reset();
    plain.rows.clear();
    plain.validations.clear();
    const auto read_plain = decode_checkpoint(encoded(plain), "memory");
    REQUIRE_OK(read_plain);
    check_same(*read_plain, plain);
    CHECK(&read_plain->evaluated() == &read_plain->state.weights);
    CHECK(&read->evaluated() == &read->average);
}

TEST_CASE("a checkpoint from before fp16 loads, and a loss scale that cannot be is rejected") {
    Checkpoint old = sample(42);
    for (TrainRow& row : old.rows)
        row.skipped = 0;
    // Keys that no version knows are as good as none.
    const auto read = decode_checkpoint(with_words(encoded(old), {{"\"skipped\"", "\"unknown\""},
                                                                  {"\"skipped_in_row\"", "\"unknown_in_row\""},
                                                                  {"\"loss_scaling\"", "\"loss_unknown\""},
                                                                  {"\"allow_tf32\":false,", std::string(19, ' ')},
                                                                  {"\"deterministic\":true,", std::string(21, ' ')}}),
                                        "memory");
    old.skipped = old.skipped_in_row = old.open_row.skipped = 0;
    old.state.loss_scaling.reset();
    REQUIRE_OK(read);
    check_same(*read, old);

    REQUIRE_OK(decode_checkpoint(with_words(encoded(sample(42)), {{"2048.0", "4096.0"}}), "memory"));
    for (const char* scale : {"2047.0", "0.0625", "-256.0", "1e+300"}) {
        INFO(scale);
        REQUIRE_CODE(decode_checkpoint(with_words(encoded(sample(42)), {{"2048.0", scale}}), "memory"),
                     checkpoint_damaged);
    }
}

TEST_CASE("a checkpoint cut short anywhere is rejected") {
    const auto bytes = encoded(sample(1));
    // Every length around the header and the end, every 97th in between.
    std::set<std::size_t> lengths;
    for (std::size_t i = 0; i < 600; ++i) {
        lengths.insert(i);
        lengths.insert(bytes.size() - 1 - i);
    }
    for (std::size_t i = 0; i < bytes.size(); i += 97)
        lengths.insert(i);
    for (const std::size_t length : lengths) {
        INFO(length << " of " << bytes.size());
        REQUIRE_CODE(decode_checkpoint(std::span(bytes).first(length), "memory"), checkpoint_damaged);
    }
    auto longer = bytes;
    longer.push_back(std::byte{0});
    REQUIRE_CODE(decode_checkpoint(longer, "memory"), checkpoint_damaged);
}

TEST_CASE("a checkpoint with any bit flipped is rejected") {
    auto bytes = encoded(sample(1));
    Random random(11);
    // Every byte once, with a random bit of it: header, table and every section.
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto flip = static_cast<std::byte>(1U << random.below(8));
        bytes[i] ^= flip;
        const auto read = decode_checkpoint(bytes, "memory");
        INFO("byte " << i);
        REQUIRE_CODE(read, checkpoint_damaged);
        bytes[i] ^= flip;
    }
    REQUIRE_OK(decode_checkpoint(bytes, "memory"));
}

TEST_CASE("another format version and other files are rejected") {
    REQUIRE_CODE(decode_checkpoint({}, "memory"), checkpoint_damaged);
    const std::string other = "this is no checkpoint, whatever it is called by whoever named it";
    REQUIRE_CODE(decode_checkpoint(std::as_bytes(std::span(other)), "memory"), checkpoint_damaged);
    const test::TemporaryFolder folder;
    REQUIRE_CODE(read_checkpoint(folder / "absent.ckpt"), file_not_found);
    REQUIRE_OK(write_file_atomically(folder / "short.ckpt", "MFRES"));
    REQUIRE_CODE(read_checkpoint(folder / "short.ckpt"), checkpoint_damaged);
}

TEST_CASE("a hole of 16 GiB that is called a checkpoint is rejected without being read") {
    const test::TemporaryFolder folder;
    test::make_sparse(folder / "hole.ckpt", "", std::uint64_t{16} << 30U);
    const auto code = test::in_small_memory([&] {
        const auto read = read_checkpoint(folder / "hole.ckpt");
        return !read && read.error().code == ErrorCode::checkpoint_damaged ? 0 : 1;
    });
    CHECK(code.value_or(0) == 0);
}

TEST_CASE("deeply nested JSON in a checkpoint is rejected by the reader of JSON") {
    const std::string nested = std::string(33, '[') + std::string(33, ']');
    const auto read =
        decode_checkpoint(with_words(encoded(sample(1)), {{'"' + std::string(64, 'a') + '"', nested}}), "memory");
    REQUIRE_CODE(read, checkpoint_damaged);
    CHECK(read.error().message.find("nested deeper than 32 levels") != std::string::npos);
}

TEST_CASE("what is not finite cannot be saved") {
    const test::TemporaryFolder folder;
    CheckpointFolder checkpoints(folder.path());
    REQUIRE_OK(checkpoints.save(sample(1)));
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Checkpoint broken = sample(2);
        broken.state.second_moment.begin()->second[5] = bad;
        REQUIRE_CODE(checkpoints.save(broken), training_diverged);
    }
    const auto found = checkpoints.load();
    REQUIRE_OK(found);
    CHECK(found->checkpoint.step == 1); // untouched
    CHECK_FALSE(std::filesystem::exists(checkpoints.previous()));
}

TEST_CASE("the last two checkpoints are kept, and a damaged newest one is reported") {
    const test::TemporaryFolder folder;
    CheckpointFolder checkpoints(folder.path());
    REQUIRE_CODE(checkpoints.load(), file_not_found);
    for (std::int64_t step = 1; step <= 3; ++step)
        REQUIRE_OK(checkpoints.save(sample(step)));
    REQUIRE_OK(read_checkpoint(checkpoints.previous()));
    CHECK(read_checkpoint(checkpoints.previous())->step == 2);
    auto found = checkpoints.load();
    REQUIRE_OK(found);
    CHECK(found->checkpoint.step == 3);
    CHECK(found->warning.empty());

    const auto sound = encoded(sample(3));
    const auto damage_last = [&](std::size_t at) {
        auto bytes = sound;
        bytes[at] ^= std::byte{0x10};
        overwrite(checkpoints.last(), bytes);
    };
    SECTION("flipped in any section") {
        // Offsets of the sections from the table that the header describes.
        std::size_t offset = 8 + 4 + 4 + 7 * 28 + 4;
        for (std::size_t i = 0; i < 7; ++i) {
            std::uint64_t length = 0;
            for (std::size_t b = 0; b < 8; ++b)
                length |= std::to_integer<std::uint64_t>(sound[16 + i * 28 + 16 + b]) << (8 * b);
            damage_last(offset + static_cast<std::size_t>(length) / 2);
            found = checkpoints.load();
            REQUIRE_OK(found);
            CHECK(found->checkpoint.step == 2);
            CHECK(found->warning.find("previous.ckpt") != std::string::npos);
            CHECK(found->warning.find("CRC-32") != std::string::npos);
            offset += static_cast<std::size_t>(length);
        }
        CHECK(offset == sound.size());
    }
    SECTION("cut short or gone") {
        overwrite(checkpoints.last(), std::span(sound).first(sound.size() / 2));
        found = checkpoints.load();
        REQUIRE_OK(found);
        CHECK(found->checkpoint.step == 2);
        CHECK_FALSE(found->warning.empty());
        std::filesystem::remove(checkpoints.last());
        found = checkpoints.load();
        REQUIRE_OK(found);
        CHECK(found->checkpoint.step == 2);
        CHECK_FALSE(found->warning.empty());
    }
    SECTION("a damaged newest one never takes the place of the sound one before") {
        damage_last(sound.size() - 1);
        SECTION("known from loading") {
            REQUIRE_OK(checkpoints.load());
        }
        SECTION("found out when saving") {
            checkpoints = CheckpointFolder(folder.path());
        }
        REQUIRE_OK(checkpoints.save(sample(4)));
        CHECK(read_checkpoint(checkpoints.previous())->step == 2);
        CHECK(read_checkpoint(checkpoints.last())->step == 4);
        REQUIRE_OK(checkpoints.save(sample(5)));
        CHECK(read_checkpoint(checkpoints.previous())->step == 4);
    }
    SECTION("both damaged") {
        damage_last(sound.size() - 1);
        overwrite(checkpoints.previous(), std::span(sound).first(100));
        const auto rejected = checkpoints.load();
        REQUIRE_CODE(rejected, checkpoint_damaged);
        CHECK(rejected.error().message.find("last.ckpt") != std::string::npos);
        CHECK(rejected.error().message.find("previous.ckpt") != std::string::npos);
    }
}

namespace {
/// The number of kills, more where the environment asks for a long run.
int kills() {
    const char* chosen = std::getenv("MFRES_CHECKPOINT_KILLS");
    return chosen != nullptr ? std::max(1, std::atoi(chosen)) : 20;
}

/// Saves steps from `first` on until it is killed.
[[noreturn]] void save_forever(const std::filesystem::path& folder, const Checkpoint& template_checkpoint,
                               std::int64_t first) {
    CheckpointFolder checkpoints(folder);
    Checkpoint checkpoint = template_checkpoint;
    for (checkpoint.step = first;; ++checkpoint.step)
        if (!checkpoints.save(checkpoint))
            ::_exit(3);
}

} // namespace

TEST_CASE("a process killed while it saves leaves a checkpoint that loads") {
    const test::TemporaryFolder folder;
    const Checkpoint large = sample(0, 20000); // 2.4 MB of floats, so that most of the time is spent writing
    Random random(static_cast<std::uint64_t>(::getpid()));
    std::int64_t newest = 0;
    std::int64_t advanced = 0;
    for (int kill = 0; kill < kills(); ++kill) {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0)
            save_forever(folder.path(), large, newest + 1);
        // Not before there is a first checkpoint, then at any moment.
        while (newest == 0 && !std::filesystem::exists(folder / "last.ckpt"))
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(60000)));
        REQUIRE(::kill(child, SIGKILL) == 0);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status)); // it was saving until the end

        CheckpointFolder checkpoints(folder.path());
        const auto found = checkpoints.load();
        INFO("kill " << kill);
        REQUIRE_OK(found);
        CHECK(found->checkpoint.step >= newest); // never behind what was there before
        CHECK(same(found->checkpoint.state.weights, large.state.weights));
        advanced += found->checkpoint.step > newest ? 1 : 0;
        newest = found->checkpoint.step;
        checkpoints.remove_leftovers();
        for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
            CHECK(entry.path().filename().string()[0] != '.');
    }
    CHECK(advanced > 0);
}

} // namespace mfres
