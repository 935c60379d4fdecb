// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/try.h"

#include <mfres/machine.h>

#include <charconv>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Measures what this machine can do, once: multiply-adds by precision, copies by working set, and the ops of a few\n"
    "networks as the backend runs them. mfres complexity --machine predicts times from the file. Takes about a minute;\n"
    "other work on the machine makes it look slower.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres probe --out machine.json\n"
                                 "  mfres probe --threads 1,2 --precision f32,int8 --out machine.json\n"
                                 "  mfres probe --list                      # machines by their data sheets\n"
                                 "  mfres complexity --network mf-res2net --machine machine.json\n";

Result<std::vector<int>> thread_counts(const std::string& list) {
    std::vector<int> counts;
    if (list == "auto")
        return counts;
    for (const std::string& word : listed(list)) {
        int count = 0;
        const auto [rest, problem] = std::from_chars(word.data(), word.data() + word.size(), count);
        if (problem != std::errc{} || rest != word.data() + word.size() || count < 1)
            return Error{ErrorCode::invalid_argument, text("--threads is a list such as 1,2; '", list, "' is not"),
                         "threads"};
        counts.push_back(count);
    }
    return counts;
}

Result<Machine> measured(const Options& options, ProgressDisplay& display) {
    ProbeOptions chosen;
    chosen.name = options.get<std::string>("name");
    chosen.backend = options.get<std::string>("backend");
    chosen.runs = options.get<int>("runs");
    MFRES_TRY(chosen.threads, thread_counts(options.get<std::string>("threads")));
    MFRES_TRY(chosen.precisions, precisions_of(options));
    MFRES_TRY(Machine machine, probe(chosen, display.progress()));
    if (options.has("out"))
        MFRES_CHECK(write_file_atomically(options.get<std::string>("out"), to_json(machine), options.has("force")));
    return machine;
}

int list_machines(bool json) {
    OrderedJson all = OrderedJson::array();
    for (const Machine& machine : known_machines()) {
        if (json)
            all.push_back(OrderedJson::parse(to_json(machine), nullptr, false));
        else
            std::cout << to_text(machine) << '\n';
    }
    if (json)
        std::cout << all.dump(2) << '\n';
    return exit_ok;
}

} // namespace

int probe(const std::vector<std::string>& arguments) {
    Options options("probe [--out FILE.json]", about, examples);
    // clang-format off
    options.add()
        ("out,o", po::value<std::string>(), "write the machine to this file")
        ("name", po::value<std::string>()->default_value("this machine"), "what reports call it")
        ("threads", po::value<std::string>()->default_value("auto"), "numbers of threads, 1,2 say; auto: 1 and all CPUs this process may use")
        ("precision", po::value<std::string>()->default_value("auto"), "f32, bf16, fp16 or int8, or a list; auto: those of f32, bf16 and int8 that work here")
        ("backend", po::value<std::string>()->default_value("auto"), backend_help("the first that has most of the precisions here").c_str())
        ("runs", po::value<int>()->default_value(9), "of each network; the median of an op's times counts")
        ("list", "show the machines that are known by their data sheets");
    // clang-format on
    add_output_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    if (options.has("list"))
        return list_machines(options.has("json"));
    const auto machine = with_progress(options, [&](ProgressDisplay& display) { return measured(options, display); });
    return print_report(options, machine, [](const Machine& of) { return to_text(of); });
}

} // namespace mfres::cli
