// As much of Catch2's interface as the backends' tests use, for a GPU machine that has a compiler and no packages. Only
// tests/gpu/CMakeLists.txt puts this folder on the include path.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace catch_stand_in {

struct Failed : std::exception {};

struct Case {
    const char* name;
    void (*body)();
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

inline std::vector<std::string>& notes() {
    static std::vector<std::string> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

inline int& assertions() {
    static int count = 0;
    return count;
}

struct Registration {
    Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

/// A line that a failure shows, while it is in scope.
struct Note {
    explicit Note(std::string text) { notes().push_back(std::move(text)); }
    Note(const Note&) = delete;
    Note& operator=(const Note&) = delete;
    ~Note() { notes().pop_back(); }
};

inline void failed(const char* file, int line, const std::string& what) {
    ++failures();
    std::printf("%s:%d: FAILED: %s\n", file, line, what.c_str());
    for (const std::string& note : notes())
        std::printf("    with %s\n", note.c_str());
}

inline void check(bool passed, const char* file, int line, const char* what, bool required) {
    ++assertions();
    if (passed)
        return;
    failed(file, line, what);
    if (required)
        throw Failed();
}

/// Runs the cases whose names contain `filter`; the exit code is 1 if any failed.
inline int run(const char* filter) {
    int ran = 0;
    for (const Case& one : cases()) {
        if (filter && !std::strstr(one.name, filter))
            continue;
        ++ran;
        const int before = failures();
        std::printf("%s ...\n", one.name);
        std::fflush(stdout);
        try {
            one.body();
        } catch (const Failed&) {
        } catch (const std::exception& error) {
            failed(one.name, 0, error.what());
        }
        std::printf("    %s\n", failures() == before ? "passed" : "FAILED");
    }
    std::printf("%d cases, %d assertions, %d failures\n", ran, assertions(), failures());
    return failures() == 0 && ran > 0 ? 0 : 1;
}

} // namespace catch_stand_in

/// A number that others are equal to within a relative `epsilon` or an absolute `margin`.
class Approx {
  public:
    explicit Approx(double value) : value_(value) {}
    Approx epsilon(double epsilon) const {
        Approx other = *this;
        other.epsilon_ = epsilon;
        return other;
    }
    Approx margin(double margin) const {
        Approx other = *this;
        other.margin_ = margin;
        return other;
    }
    friend bool operator==(double a, const Approx& b) {
        const double distance = std::abs(a - b.value_);
        return distance <= b.margin_ || distance <= b.epsilon_ * std::abs(b.value_);
    }

  private:
    double value_;
    double epsilon_ = 1.2e-5;
    double margin_ = 0.0;
};

#define STAND_IN_JOIN2(a, b) a##b
#define STAND_IN_JOIN(a, b) STAND_IN_JOIN2(a, b)
#define STAND_IN_CASE(function, name)                                                                                  \
    static void function();                                                                                            \
    static const catch_stand_in::Registration STAND_IN_JOIN(function, _registered)(name, function);                    \
    static void function()
#define TEST_CASE(name) STAND_IN_CASE(STAND_IN_JOIN(test_case_, __LINE__), name)
#define STAND_IN_TEXT(...)                                                                                             \
    [&] {                                                                                                              \
        std::ostringstream stand_in_stream;                                                                            \
        stand_in_stream << __VA_ARGS__;                                                                                \
        return stand_in_stream.str();                                                                                  \
    }()
#define INFO(...) const catch_stand_in::Note STAND_IN_JOIN(note_, __LINE__)(STAND_IN_TEXT(__VA_ARGS__))
#define CHECK(...) catch_stand_in::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__, false)
#define REQUIRE(...) catch_stand_in::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__, true)
#define CHECK_FALSE(...) catch_stand_in::check(!static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__, false)
#define REQUIRE_FALSE(...)                                                                                             \
    catch_stand_in::check(!static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__, true)
#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        catch_stand_in::failed(__FILE__, __LINE__, STAND_IN_TEXT(__VA_ARGS__));                                        \
        throw catch_stand_in::Failed();                                                                                \
    } while (false)

#ifdef CATCH_CONFIG_MAIN
int main(int argc, char** argv) {
    return catch_stand_in::run(argc > 1 ? argv[1] : nullptr);
}
#endif
