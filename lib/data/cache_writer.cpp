// SPDX-License-Identifier: MIT
#include "core/file.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/try.h"
#include "data/block_codec.h"
#include "data/cache.h"
#include "data/cache_file.h"
#include "data/cache_format.h"
#include "data/quantize.h"
#include "imaging/case.h"
#include "imaging/geometry.h"
#include "imaging/labels.h"
#include "imaging/plausibility.h"

#include <algorithm>
#include <new>
#include <optional>

namespace mfres {

namespace {

/// A part of a grid, walked x slowest and z fastest, while grids run x fastest.
struct Box {
    std::array<std::int64_t, 3> begin{};
    std::array<std::int64_t, 3> size{};

    std::size_t voxels() const { return static_cast<std::size_t>(size[0] * size[1] * size[2]); }
};

/// Copies the box out of a grid. Blocks of 16 along x and z keep both sides within cache lines.
template <typename T>
std::vector<T> cut_out(const std::vector<T>& grid_values, const std::array<std::int64_t, 3>& grid, const Box& box) {
    constexpr std::int64_t edge = 16;
    std::vector<T> values(box.voxels());
    for (std::int64_t y = 0; y < box.size[1]; ++y)
        for (std::int64_t x0 = 0; x0 < box.size[0]; x0 += edge)
            for (std::int64_t z0 = 0; z0 < box.size[2]; z0 += edge)
                for (std::int64_t z = z0; z < std::min(z0 + edge, box.size[2]); ++z) {
                    const T* const row =
                        grid_values.data() + box.begin[0] + grid[0] * (box.begin[1] + y + grid[1] * (box.begin[2] + z));
                    for (std::int64_t x = x0; x < std::min(x0 + edge, box.size[0]); ++x)
                        values[static_cast<std::size_t>((x * box.size[1] + y) * box.size[2] + z)] = row[x];
                }
    return values;
}

std::vector<std::uint8_t> brain_mask(const Preprocessing& preprocessing, const Box& box) {
    std::vector<std::uint8_t> mask(box.voxels(), 0);
    for (std::int64_t y = 0; y < box.size[1]; ++y)
        for (std::int64_t z = 0; z < box.size[2]; ++z)
            for (const VoxelRun& run : preprocessing.row(box.begin[1] + y, box.begin[2] + z))
                for (std::int64_t i = run.begin; i < run.end; ++i)
                    mask[static_cast<std::size_t>(((i - box.begin[0]) * box.size[1] + y) * box.size[2] + z)] = 1;
    return mask;
}

template <typename T>
std::vector<T> quantize(const std::vector<float>& intensities, const std::vector<std::uint8_t>& brain,
                        const Quantization& steps) {
    std::vector<T> quanta(intensities.size(), T{0});
    for (std::size_t i = 0; i < quanta.size(); ++i)
        if (brain[i] != 0)
            quanta[i] = static_cast<T>(steps.quantum(intensities[i]));
    return quanta;
}

CachedModality quantize_modality(std::vector<float> intensities, const std::vector<std::uint8_t>& brain,
                                 const ModalityIntensity& statistics, int levels) {
    for (float& intensity : intensities)
        intensity = std::clamp(intensity, statistics.low, statistics.high);
    std::vector<float> inside;
    inside.reserve(intensities.size());
    for (std::size_t i = 0; i < intensities.size(); ++i)
        if (brain[i] != 0)
            inside.push_back(intensities[i]);
    const Quantization steps = choose_quantization(inside, statistics.mean, levels);
    CachedModality modality;
    modality.scale = static_cast<float>(steps.step / statistics.stddev);
    modality.offset = static_cast<float>((steps.base - statistics.mean) / statistics.stddev);
    if (steps.fits_uint8())
        modality.quanta = quantize<std::uint8_t>(intensities, brain, steps);
    else
        modality.quanta = quantize<std::int16_t>(intensities, brain, steps);
    return modality;
}

Result<CachedCase> make_case(const CaseFiles& files, const CacheOptions& options, int threads) {
    CaseOptions case_options;
    case_options.threads = threads;
    case_options.accept = options.accept;
    case_options.min_brain_ml = 0.0; // how small a brain may be is for the model to say that is trained on it
    MFRES_TRY(Case loaded, load_case(files, case_options));
    MFRES_TRY(const LabelMap labels, load_reference_classes(files, loaded));
    MFRES_TRY(const Preprocessing preprocessing,
              preprocess_case(loaded, {.threads = threads, .normalisation = options.normalisation}));
    Box box;
    box.begin = preprocessing.box_begin;
    for (std::size_t axis = 0; axis < 3; ++axis)
        box.size[axis] = preprocessing.box_end[axis] - preprocessing.box_begin[axis];
    CachedCase made;
    made.id = files.id;
    made.size = box.size;
    made.normalisation = options.normalisation;
    made.voxel_mm = voxel_size(preprocessing.grid.affine);
    made.classes = cut_out(labels.labels, preprocessing.grid.size, box);
    made.brain = brain_mask(preprocessing, box);
    std::array<Status, 4> outcomes;
    parallel_ranges(4, threads, [&](std::int64_t begin, std::int64_t end) {
        for (auto m = static_cast<std::size_t>(begin); m < static_cast<std::size_t>(end); ++m)
            outcomes[m] = guarded(files.id, [&]() -> Status {
                made.modalities[m] =
                    quantize_modality(cut_out(loaded.scans[m].volume().voxels, preprocessing.grid.size, box),
                                      made.brain, preprocessing.intensity[m], options.levels);
                return {};
            });
    });
    for (Status& outcome : outcomes)
        MFRES_CHECK(std::move(outcome));
    return made;
}

Result<std::vector<std::byte>> pack_block(const CachedCase& content, std::size_t block) {
    if (block == classes_block)
        return pack_labels(content.classes);
    if (block == brain_block)
        return pack_labels(content.brain);
    return std::visit(
        [&](const auto& quanta) {
            return pack_quanta(std::span(quanta.data(), quanta.size()), content.brain, content.size);
        },
        content.modalities[block].quanta);
}

using PackedBlocks = std::array<std::vector<std::byte>, cache_blocks>;

Result<PackedBlocks> pack_case(const CachedCase& content, int threads) {
    std::array<std::optional<Result<std::vector<std::byte>>>, cache_blocks> outcomes;
    parallel_ranges(cache_blocks, threads, [&](std::int64_t begin, std::int64_t end) {
        for (auto b = static_cast<std::size_t>(begin); b < static_cast<std::size_t>(end); ++b)
            outcomes[b].emplace(guarded(content.id, [&] { return pack_block(content, b); }));
    });
    PackedBlocks packed;
    for (std::size_t b = 0; b < cache_blocks; ++b) {
        MFRES_TRY(packed[b], *std::move(outcomes[b]));
    }
    return packed;
}

CacheRecord describe(const CachedCase& content, const PackedBlocks& packed) {
    CacheRecord record;
    record.id = content.id;
    record.size = content.size;
    record.voxel_mm = content.voxel_mm;
    record.normalisation = content.normalisation;
    for (const auto value : content.classes)
        ++record.class_voxels[value];
    record.brain_voxels = std::count(content.brain.begin(), content.brain.end(), std::uint8_t{1});
    for (std::size_t m = 0; m < record.modalities.size(); ++m) {
        const auto& modality = content.modalities[m];
        record.modalities[m] = {std::holds_alternative<std::vector<std::int16_t>>(modality.quanta), modality.scale,
                                modality.offset};
    }
    for (std::size_t b = 0; b < cache_blocks; ++b)
        record.blocks[b] = {0, packed[b].size(), crc32_of(packed[b])};
    return record;
}

/// A file that is read must not be replaced by one that holds the same case ids.
Status check_not_an_input(const std::filesystem::path& path, const CaseSet& cases) {
    std::error_code problem;
    for (std::size_t i = 0; i < cases.size(); ++i)
        if (const CacheCase* stored = stored_case(cases[i]))
            if (std::filesystem::equivalent(path, stored->file->path(), problem))
                return Error{ErrorCode::invalid_argument,
                             text(path.string(), " is a cache to take cases from; the one to write needs another name"),
                             path.string()};
    return {};
}

Status check_request(const std::filesystem::path& path, const CaseSet& cases, const CacheOptions& options) {
    const std::string where = path.string();
    if (options.levels != 0 && (options.levels < 2 || options.levels > 256))
        return Error{ErrorCode::invalid_argument,
                     text("a cache can have 2 to 256 levels, or 0 for exact intensities, not ", options.levels), where};
    if (options.threads < 0)
        return Error{ErrorCode::invalid_argument, text("the number of threads is ", options.threads), where};
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, text("there is no case to write to ", where), where};
    for (std::size_t i = 0; i < cases.size(); ++i)
        if (const std::string& id = cases.id(i); id.empty() || id.size() > longest_case_id)
            return Error{ErrorCode::invalid_argument,
                         text("a case id must have 1 to ", longest_case_id, " bytes, not ", id.size()), id};
    return check_not_an_input(path, cases);
}

Result<CacheRecord> write_packed(PendingWriter& writer, const CachedCase& content, int threads) {
    MFRES_TRY(const PackedBlocks packed, pack_case(content, threads));
    for (const auto& block : packed)
        MFRES_CHECK(writer.append(block));
    return describe(content, packed);
}

Result<CacheRecord> write_case(PendingWriter& writer, const CaseFiles& files, const CacheOptions& options,
                               int threads) {
    MFRES_TRY(const CachedCase content, make_case(files, options, threads));
    return write_packed(writer, content, threads);
}

/// Copies the blocks of a stored case as they are; packs one that is in memory only.
Result<CacheRecord> write_case(PendingWriter& writer, const CaseSet::Cached& cached, const CacheOptions&, int threads) {
    const CacheCase* const stored = cached.cache->stored(cached.index);
    if (stored == nullptr) {
        MFRES_TRY(const auto content, cached.cache->load(cached.index));
        return write_packed(writer, *content, threads);
    }
    for (std::size_t block = 0; block < cache_blocks; ++block) {
        MFRES_TRY(const auto bytes, stored->file->read_block(stored->index, block));
        MFRES_CHECK(writer.append(bytes));
    }
    return stored->record();
}

Status write_cases(PendingWriter& writer, const CaseSet& cases, const CacheOptions& options,
                   const CacheProgress& progress, std::vector<CacheRecord>& records) {
    const int threads = resolve_threads(options.threads);
    const auto report = [&](std::size_t done) -> Status {
        if (progress && !progress(done, cases.size()))
            return Error{ErrorCode::interrupted,
                         text("making a cache was stopped after ", done, " of ", cases.size(), " cases"),
                         {}};
        return {};
    };
    for (std::size_t i = 0; i < cases.size(); ++i) {
        MFRES_CHECK(report(i));
        MFRES_TRY(CacheRecord record,
                  std::visit([&](const auto& one) { return write_case(writer, one, options, threads); }, cases[i]));
        records.push_back(std::move(record));
    }
    return report(records.size());
}

Status write_whole_cache(const std::filesystem::path& path, const CaseSet& cases, const CacheOptions& options,
                         const CacheProgress& progress) {
    MFRES_CHECK(check_request(path, cases, options));
    CaseSet decided = cases; // those that have no label scheme yet are one data set
    MFRES_CHECK(
        decided.choose_labels({}, text("the cases for ", path.string()), AffineSource::automatic, options.threads));
    MFRES_TRY(PendingWriter writer, PendingWriter::create(path, options.overwrite));
    MFRES_CHECK(writer.append(std::array<std::byte, cache_header_bytes>{})); // the header is known last
    std::vector<CacheRecord> records;
    MFRES_CHECK(write_cases(writer, decided, options, progress, records));
    const std::uint64_t index_begin = writer.size();
    const std::vector<std::byte> index = encode_index(records);
    MFRES_CHECK(writer.append(index));
    MFRES_CHECK(writer.replace(0, encode_header(records.size(), index_begin, index)));
    MFRES_TRY(PendingFile file, std::move(writer).finish());
    return file.commit();
}

} // namespace

Status write_cache(const std::filesystem::path& path, const CaseSet& cases, const CacheOptions& options,
                   const CacheProgress& progress) {
    return guarded(path, [&]() -> Status { return write_whole_cache(path, cases, options, progress); });
}

} // namespace mfres
