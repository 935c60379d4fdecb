// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include "core/try.h"
#include "imaging/labels.h"
#include "imaging/nifti/nifti.h"
#include "imaging/preview.h"
#include "phantom/phantom.h"

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Writes a synthetic case in BraTS layout: T1, T1ce, T2 and FLAIR of a skull-stripped head with a tumour, and its true\n"
    "labels. It is generated from formulas and a seed without data of patients; the headers state that it is synthetic.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres phantom --seed 7 --out phantom\n"
                                 "  mfres phantom --size 96,112,80 --out small --preview small.png\n";

constexpr const char* description = "mfres synthetic phantom, no patient";

Status write_case(const std::filesystem::path& folder, const std::string& id, const Phantom& phantom, bool force) {
    std::vector<std::filesystem::path> written;
    const auto write_all = [&]() -> Status {
        for (const Modality modality : modalities) {
            const Volume& volume = phantom.volumes[static_cast<std::size_t>(modality)];
            const auto path = folder / text(id, "_", name(modality), ".nii.gz");
            MFRES_CHECK(write_nifti(path, volume, geometry_of(volume.grid), NiftiDatatype::int16, description, force));
            written.push_back(path);
        }
        return write_nifti_labels(folder / (id + "_seg.nii.gz"), phantom.labels, geometry_of(phantom.labels.grid),
                                  description, force);
    };
    auto status = write_all();
    std::error_code ignored;
    if (!status)
        for (const auto& path : written)
            std::filesystem::remove(path, ignored); // no incomplete case
    return status;
}

} // namespace

int phantom(const std::vector<std::string>& arguments) {
    Options options("phantom --out FOLDER", about, examples);
    // clang-format off
    options.add()
        ("out,o", po::value<std::string>()->required(), "folder of the case; its name becomes the case's id")
        ("seed", po::value<std::uint64_t>()->default_value(1), "determines head, tumour and noise")
        ("size", po::value<std::string>()->default_value("240,240,155"), "voxels of 1 mm, each edge 32 to 1024")
        ("preview", po::value<std::string>(), "also write a picture with the true labels (.png)");
    // clang-format on
    add_threads_option(options);
    add_output_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const auto size = parse_size(options.get<std::string>("size"));
    if (!size)
        return fail(size.error(), json);
    const std::filesystem::path folder = std::filesystem::path(options.get<std::string>("out")).lexically_normal() / "";
    const std::string id = folder.parent_path().filename().string();
    if (id.empty() || id == "." || id == "..")
        return usage_error("--out must name a folder of its own, since its name becomes the case's id");
    std::error_code problem;
    if (!options.has("force") && std::filesystem::exists(folder / (id + "_t1.nii.gz"), problem))
        return fail({ErrorCode::file_exists, text(folder.string(), " holds a case already; --force overwrites it"),
                     folder.string()},
                    json);
    const auto made = make_phantom(
        {.seed = options.get<std::uint64_t>("seed"), .size = *size, .threads = options.get<int>("threads")});
    if (!made)
        return fail(made.error(), json);
    std::filesystem::create_directories(folder, problem);
    if (problem)
        return fail({ErrorCode::file_write, text("cannot make folder ", folder.string(), ": ", problem.message()),
                     folder.string()},
                    json);
    const auto written = write_case(folder, id, *made, options.has("force"));
    if (!written)
        return fail(written.error(), json);
    if (options.has("preview")) {
        const auto drawn =
            write_preview(options.get<std::string>("preview"), made->volumes[static_cast<std::size_t>(Modality::flair)],
                          made->volumes[static_cast<std::size_t>(Modality::t1ce)], made->labels,
                          {.title = id + "   synthetic phantom, true labels"});
        if (!drawn)
            return fail(drawn.error(), json);
    }
    const auto seed = options.get<std::uint64_t>("seed");
    confirm(options, {{"case", id}, {"folder", folder.string()}, {"seed", seed}, {"size", *size}},
            text(folder.string(), ": synthetic case ", id, ", seed ", seed, ", ", (*size)[0], "x", (*size)[1], "x",
                 (*size)[2], " voxels"));
    return exit_ok;
}

} // namespace mfres::cli
