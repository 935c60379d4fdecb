// SPDX-License-Identifier: MIT
// The Hershey fonts were originally created by Dr. A. V. Hershey while working at the U. S. National Bureau of Standards.
// The format of the font data in this distribution was originally created by James Hurt, Cognition, Inc., 900 Technology
// Park Drive, Billerica, MA 01821 (mit-eddie!ci-dandelion!hurt). The data may be used by anyone for any purpose,
// commercial or otherwise, with these acknowledgements.
#include "picture/font.h"

#include <utility>

namespace mfres::font {

namespace {

// The characters ' ' to '~'. Every coordinate is a letter, counted from 'R'. First the left and the right border, then the
// points (x, y) of the strokes; " R" lifts the pen.
// clang-format off
constexpr std::array<std::string_view, 95> glyphs = {
    R"(JZ)",
    R"(MWRFRT RRYQZR[SZRY)",
    R"(JZNFNM RVFVM)",
    R"(H]SBLb RYBRb RLOZO RKUYU)",
    R"(H\PBP_ RTBT_ RYIWGTFPFMGKIKKLMMNOOUQWRXSYUYXWZT[P[MZKX)",
    R"(F^[FI[ RNFPHPJOLMMKMIKIIJGLFNFPGSHVHYG[F RWTUUTWTYV[X[ZZ[X[VYTWT)",
    R"(E_\O\N[MZMYNXPVUTXRZP[L[JZIYHWHUISJRQNRMSKSIRGPFNGMIMKNNPQUXWZY[[[\Z\Y)",
    R"(MWRHQGRFSGSIRKQL)",
    R"(KYVBTDRGPKOPOTPYR]T`Vb)",
    R"(KYNBPDRGTKUPUTTYR]P`Nb)",
    R"(JZRFRR RMIWO RWIMO)",
    R"(E_RIR[ RIR[R)",
    R"(MWSZR[QZRYSZS\R^Q_)",
    R"(E_IR[R)",
    R"(MWRYQZR[SZRY)",
    R"(G][BIb)",
    R"(H\QFNGLJKOKRLWNZQ[S[VZXWYRYOXJVGSFQF)",
    R"(H\NJPISFS[)",
    R"(H\LKLJMHNGPFTFVGWHXJXLWNUQK[Y[)",
    R"(H\MFXFRNUNWOXPYSYUXXVZS[P[MZLYKW)",
    R"(H\UFKTZT RUFU[)",
    R"(H\WFMFLOMNPMSMVNXPYSYUXXVZS[P[MZLYKW)",
    R"(H\XIWGTFRFOGMJLOLTMXOZR[S[VZXXYUYTXQVOSNRNOOMQLT)",
    R"(H\YFO[ RKFYF)",
    R"(H\PFMGLILKMMONSOVPXRYTYWXYWZT[P[MZLYKWKTLRNPQOUNWMXKXIWGTFPF)",
    R"(H\XMWPURRSQSNRLPKMKLLINGQFRFUGWIXMXRWWUZR[P[MZLX)",
    R"(MWRMQNROSNRM RRYQZR[SZRY)",
    R"(MWRMQNROSNRM RSZR[QZRYSZS\R^Q_)",
    R"(F^ZIJRZ[)",
    R"(E_IO[O RIU[U)",
    R"(F^JIZRJ[)",
    R"(I[LKLJMHNGPFTFVGWHXJXLWNVORQRT RRYQZR[SZRY)",
    R"(E`WNVLTKQKOLNMMPMSNUPVSVUUVS RQKOMNPNSOUPV RWKVSVUXVZV\T]Q]O\L[JYHWGTFQFNGLHJJILHOHRIUJWLYNZQ[T[WZYYZX RXKWSWUXV)",
    R"(I[RFJ[ RRFZ[ RMTWT)",
    R"(G\KFK[ RKFTFWGXHYJYLXNWOTP RKPTPWQXRYTYWXYWZT[K[)",
    R"(H]ZKYIWGUFQFOGMILKKNKSLVMXOZQ[U[WZYXZV)",
    R"(G\KFK[ RKFRFUGWIXKYNYSXVWXUZR[K[)",
    R"(H[LFL[ RLFYF RLPTP RL[Y[)",
    R"(HZLFL[ RLFYF RLPTP)",
    R"(H]ZKYIWGUFQFOGMILKKNKSLVMXOZQ[U[WZYXZVZS RUSZS)",
    R"(G]KFK[ RYFY[ RKPYP)",
    R"(NVRFR[)",
    R"(JZVFVVUYTZR[P[NZMYLVLT)",
    R"(G\KFK[ RYFKT RPOY[)",
    R"(HYLFL[ RL[X[)",
    R"(F^JFJ[ RJFR[ RZFR[ RZFZ[)",
    R"(G]KFK[ RKFY[ RYFY[)",
    R"(G]PFNGLIKKJNJSKVLXNZP[T[VZXXYVZSZNYKXIVGTFPF)",
    R"(G\KFK[ RKFTFWGXHYJYMXOWPTQKQ)",
    R"(G]PFNGLIKKJNJSKVLXNZP[T[VZXXYVZSZNYKXIVGTFPF RSWY])",
    R"(G\KFK[ RKFTFWGXHYJYLXNWOTPKP RRPY[)",
    R"(H\YIWGTFPFMGKIKKLMMNOOUQWRXSYUYXWZT[P[MZKX)",
    R"(JZRFR[ RKFYF)",
    R"(G]KFKULXNZQ[S[VZXXYUYF)",
    R"(I[JFR[ RZFR[)",
    R"(F^HFM[ RRFM[ RRFW[ R\FW[)",
    R"(H\KFY[ RYFK[)",
    R"(I[JFRPR[ RZFRP)",
    R"(H\YFK[ RKFYF RK[Y[)",
    R"(KYOBOb RPBPb ROBVB RObVb)",
    R"(KYKFY^)",
    R"(KYTBTb RUBUb RNBUB RNbUb)",
    R"(JZPLRITL RMORJWO RRJR[)",
    R"(JZJ]Z])",
    R"(MWSFRGQIQKRLSKRJ)",
    R"(I\XMX[ RXPVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(H[LFL[ RLPNNPMSMUNWPXSXUWXUZS[P[NZLX)",
    R"(I[XPVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(I\XFX[ RXPVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(I[LSXSXQWOVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(MYWFUFSGRJR[ ROMVM)",
    R"(I\XMX]W`VaTbQbOa RXPVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(I\MFM[ RMQPNRMUMWNXQX[)",
    R"(NVQFRGSFREQF RRMR[)",
    R"(MWRFSGTFSERF RSMS^RaPbNb)",
    R"(IZMFM[ RWMMW RQSX[)",
    R"(NVRFR[)",
    R"(CaGMG[ RGQJNLMOMQNRQR[ RRQUNWMZM\N]Q][)",
    R"(I\MMM[ RMQPNRMUMWNXQX[)",
    R"(I\QMONMPLSLUMXOZQ[T[VZXXYUYSXPVNTMQM)",
    R"(H[LMLb RLPNNPMSMUNWPXSXUWXUZS[P[NZLX)",
    R"(I\XMXb RXPVNTMQMONMPLSLUMXOZQ[T[VZXX)",
    R"(KXOMO[ ROSPPRNTMWM)",
    R"(J[XPWNTMQMNNMPNRPSUTWUXWXXWZT[Q[NZMX)",
    R"(MYRFRWSZU[W[ ROMVM)",
    R"(I\MMMWNZP[S[UZXW RXMX[)",
    R"(JZLMR[ RXMR[)",
    R"(G]JMN[ RRMN[ RRMV[ RZMV[)",
    R"(J[MMX[ RXMM[)",
    R"(JZLMR[ RXMR[P_NaLbKb)",
    R"(J[XMM[ RMMXM RM[X[)",
    R"(KYTBRCQDPFPHQJRKSMSOQQ RRCQEQGRISJTLTNSPORSTTVTXSZR[Q]Q_Ra RQSSUSWRYQZP\P^Q`RaTb)",
    R"(NVRBRb)",
    R"(KYPBRCSDTFTHSJRKQMQOSQ RRCSESGRIQJPLPNQPURQTPVPXQZR[S]S_Ra RSSQUQWRYSZT\T^S`RaPb)",
    R"(F^IUISJPLONOPPTSVTXTZS[Q RISJQLPNPPQTTVUXUZT[Q[O)",
};
// clang-format on

constexpr double baseline = 9.0; // below the middle of the letters, which is their origin

double unit(char letter) {
    return letter - 'R';
}

} // namespace

Glyph glyph_of(char c) {
    const auto place = static_cast<std::size_t>(static_cast<unsigned char>(c >= ' ' && c <= '~' ? c : '?') - ' ');
    const std::string_view points = glyphs[place];
    const double left = unit(points[0]);
    Glyph glyph{unit(points[1]) - left, {}};
    bool down = false;
    for (std::size_t n = 2; n + 1 < points.size(); n += 2) {
        if (points[n] == ' ') {
            down = false;
            continue;
        }
        if (!down)
            glyph.strokes.emplace_back();
        down = true;
        glyph.strokes.back().push_back({unit(points[n]) - left, unit(points[n + 1]) - baseline});
    }
    return glyph;
}

namespace {

// The letters U+00C0 to U+00FF without their accents, and the accents: grave, acute, circumflex, tilde, diaeresis, ring,
// cedilla (,) and stroke (/).
constexpr std::string_view bases = "AAAAAAACEEEEIIIIDNOOOOOxOUUUUYPsaaaaaaaceeeeiiiidnooooo/ouuuuypy";
constexpr std::string_view accents = "gactdr-,gacdgacd-tgactd-/gacda--gactdr-,gacdgacd-tgactd-/gacda-d";
static_assert(bases.size() == 64 && accents.size() == 64);
constexpr unsigned first_letter = 0xC0;

/// Strokes of an accent around the point where it stands on a letter, y downwards.
std::vector<std::vector<CanvasPoint>> accent_strokes(char accent) {
    switch (accent) {
    case 'g': return {{{-3, -4}, {1, 0}}};
    case 'a': return {{{3, -4}, {-1, 0}}};
    case 'c': return {{{-3, 0}, {0, -4}, {3, 0}}};
    case 't': return {{{-4, 0}, {-2, -2}, {2, 0}, {4, -2}}};
    case 'd': return {{{-3, -1}, {-3, 0}}, {{3, -1}, {3, 0}}};
    case 'r': return {{{0, 0}, {2, -2}, {0, -4}, {-2, -2}, {0, 0}}};
    default: return {};
    }
}

/// One letter after the other, as one.
Glyph joined(Glyph first, const Glyph& second) {
    for (auto stroke : second.strokes) {
        for (CanvasPoint& point : stroke)
            point.x += first.advance;
        first.strokes.push_back(std::move(stroke));
    }
    first.advance += second.advance;
    return first;
}

Glyph latin_letter(unsigned code) {
    switch (code) {
    case 0xC6: return joined(glyph_of('A'), glyph_of('E'));
    case 0xE6: return joined(glyph_of('a'), glyph_of('e'));
    case 0xDF: return joined(glyph_of('s'), glyph_of('s'));
    default: break;
    }
    const char base = bases[code - first_letter];
    const char accent = accents[code - first_letter];
    Glyph glyph = glyph_of(base);
    const double middle = 0.5 * glyph.advance;
    constexpr double above_capital = -24;
    constexpr double above_small = -17;
    const double top = base >= 'A' && base <= 'Z' ? above_capital : above_small;
    if (accent == ',')
        glyph.strokes.push_back({{middle, 1}, {middle - 2, 6}});
    if (accent == '/')
        glyph.strokes.push_back({{middle - 6, 1}, {middle + 6, top + 2}});
    for (auto stroke : accent_strokes(accent)) {
        for (CanvasPoint& point : stroke)
            point = {point.x + middle, point.y + top};
        glyph.strokes.push_back(std::move(stroke));
    }
    return glyph;
}

} // namespace

Glyph next_glyph(std::string_view words, std::size_t& at) {
    const auto byte = [&](std::size_t n) { return n < words.size() ? static_cast<unsigned char>(words[n]) : 0U; };
    const auto continues = [&](std::size_t n) { return (byte(n) & 0xC0U) == 0x80U; };
    const unsigned first = byte(at);
    if (first == 0xC3 && continues(at + 1)) {
        at += 2;
        return latin_letter(first_letter + (byte(at - 1) & 0x3FU));
    }
    ++at;
    while (first >= 0xC0 && continues(at))
        ++at;
    return glyph_of(static_cast<char>(first));
}

} // namespace mfres::font
