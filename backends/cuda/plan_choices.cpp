// SPDX-License-Identifier: MIT
#include "backends/cuda/plan_choices.h"

#include "backends/cuda/engine.h"
#include "core/file.h"
#include "core/try.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace mfres::cuda {

namespace {

constexpr std::string_view first_line = "mfres-plans 1";
constexpr std::uint64_t most_bytes = std::uint64_t{16} << 20U;

std::string one_line(std::string words) {
    std::replace_if(
        words.begin(), words.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
    return words;
}

/// Takes the text up to the next line end away; none without a line end.
std::optional<std::string_view> next_line(std::string_view& words) {
    const std::size_t end = words.find('\n');
    if (end == std::string_view::npos)
        return {};
    const std::string_view line = words.substr(0, end);
    words.remove_prefix(end + 1);
    return line;
}

} // namespace

PlanChoices::PlanChoices(std::filesystem::path file, const std::string& device, const std::string& version)
    : file_(std::move(file)), target_(one_line(device + ", cuDNN " + version)) {
    if (!file_.empty())
        read();
}

std::optional<std::size_t> PlanChoices::choose(const std::string& convolution, const std::vector<std::string>& names,
                                               const Timer& milliseconds) {
    const std::string key = one_line(convolution);
    if (const auto before = chosen_.find(key); before != chosen_.end()) {
        const auto at = std::find(names.begin(), names.end(), before->second);
        if (at != names.end())
            return static_cast<std::size_t>(at - names.begin());
    }
    std::optional<std::size_t> best;
    double least = 0.0;
    for (std::size_t i = 0; i < names.size(); ++i) {
        try {
            const double time = milliseconds(i);
            if (!best || time < least) {
                best = i;
                least = time;
            }
        } catch (const EngineError&) { // it is passed over
        }
    }
    if (best) {
        chosen_[key] = one_line(names[*best]);
        write();
    }
    return best;
}

void PlanChoices::read() {
    const auto bytes = read_file(file_, most_bytes);
    if (!bytes) {
        if (bytes.error().code != ErrorCode::file_not_found)
            warning_ = text("plans of convolutions are timed anew: ", bytes.error().message);
        return;
    }
    std::string_view words(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    if (next_line(words) != first_line || next_line(words) != target_) {
        warning_ = text(file_.string(), " holds no choices of plans for ", target_, " and is written anew");
        return;
    }
    while (!words.empty()) {
        const auto line = next_line(words);
        const std::size_t tab = line ? line->find('\t') : std::string_view::npos;
        if (tab == std::string_view::npos || tab == 0 || tab + 1 == line->size()) {
            chosen_.clear();
            warning_ = text(file_.string(), " is damaged and is written anew");
            return;
        }
        chosen_.emplace(line->substr(0, tab), line->substr(tab + 1));
    }
}

void PlanChoices::write() {
    if (file_.empty())
        return;
    std::string all = text(first_line, "\n", target_, "\n");
    for (const auto& [convolution, name] : chosen_)
        all += text(convolution, "\t", name, "\n");
    std::error_code ignored;
    std::filesystem::create_directories(file_.parent_path(), ignored);
    const Status written = write_file_atomically(file_, all, true);
    if (!written) // the choice holds for this run
        warning_ = text("plans of convolutions are timed again in the next run: ", written.error().message);
}

std::filesystem::path plan_choices_file(const std::string& device, const std::string& version) {
    const auto folder = [](const char* variable) {
        const char* const value = std::getenv(variable);
        return std::filesystem::path(value != nullptr ? value : "");
    };
    std::filesystem::path cache = folder("XDG_CACHE_HOME");
    if (!cache.is_absolute()) { // as the XDG Base Directory Specification wants it
        const std::filesystem::path home = folder("HOME");
        if (home.empty())
            return {};
        cache = home / ".cache";
    }
    std::string name = device + "-cudnn-" + version + ".txt";
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == ' ' || c == '/' || c == '\\' || c == ':'; }, '-');
    return cache / "mfres" / "plans" / name;
}

} // namespace mfres::cuda
