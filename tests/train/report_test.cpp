// Reports: text cannot become markup, every shape of data draws something sound, bad input is refused in one line.
#include "tttlib/train/report.hpp"

#include <cmath>
#include <limits>

#include "catch.hpp"
#include "io/temporary_folder.hpp"

using namespace ttt;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

/// The page without its style sheet and script, with one chart.
std::string drawn(const ReportChart& chart) {
  Report report("t", "");
  report.chart(chart);
  const std::string page = report.html();
  const std::size_t begin = page.find("<figure"), end = page.find("</figure>");
  return page.substr(begin, end - begin);
}

std::string first_tag(const std::string& text, const std::string& start) {
  const std::size_t begin = text.find(start);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('>', begin) - begin);
}

/// A picture of one black pixel.
const std::string one_pixel(
    "\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9BU\0\0\0\nIDATx\x9C"
    "c`\0\0\0\2\0\1H\xAF\xA4q\0\0\0\0IEND\xAE"
    "B`\x82",
    67);

}  // namespace

TEST_CASE("text of every kind is escaped wherever it stands") {
  const std::string evil = "</title></script><script>alert(\"1\")&'\x01", safe = "&lt;/title&gt;&lt;/script&gt;&lt;script&gt;alert(&quot;1&quot;)&amp;&#39;\xEF\xBF\xBD";
  const TemporaryFolder folder;
  write_bytes(folder / "p.png", one_pixel);
  Report plain("t", "l"), report(evil, evil);
  for (Report* r : {&plain, &report}) {
    const std::string text = r == &report ? evil : "x";
    r->result(text);
    r->heading(text);
    r->paragraph(text);
    r->chart({.title = text, .x_label = text, .y_label = text, .lines = {{text, {1, 2}}}, .caption = text});
    r->table({.caption = text, .columns = {text}, .rows = {{text}}, .paper_column = text});
    r->picture(folder / "p.png", text, text);
    r->fact(text, text);
  }
  const std::string page = report.html(), same = plain.html();
  CHECK(page.find(evil) == std::string::npos);
  CHECK(page.find('\x01') == std::string::npos);
  CHECK(count(page, safe) > 20);
  // Markup is what it would be for harmless text.
  for (const char* mark : {"<", ">", "\""}) CHECK(count(page, mark) == count(same, mark));
}

TEST_CASE("a page is whole, needs nothing else, and is the same every time") {
  const auto make = [] {
    Report report("Title", "Lesson");
    report.result("Outcome");
    report.chart({.title = "Loss", .x_label = "epoch", .y_label = "nats", .lines = {{"train", {2, 1}}, {"test", {2.5, 1.5}}}});
    const char* argv[] = {"train", "--out", "my run", "it's"};
    report.run(4, argv, 7);
    return report.html();
  };
  const std::string page = make();
  CHECK(page == make());
  CHECK(page.rfind("<!doctype html>", 0) == 0);
  for (const char* part : {"<title>Title</title>", "<h1>Title</h1>", "<p class=\"lesson\">Lesson</p>", "<p class=\"result\">Outcome</p>",
                           "default-src 'none'", "width=device-width", "prefers-color-scheme: dark", "<dd>7</dd>",
                           "<dd>tttlib 0.", "<span>train</span> <span>--out</span> <span>&#39;my</span> <span>run&#39;</span>"})
    CHECK_THAT(page, ContainsSubstring(part));
  CHECK_THAT(page, ContainsSubstring(machine_name()));
  for (const char* address : {"http:", "https:", "src=\"/", "@import", "url("}) CHECK(count(page, address) == 0);
  // Every element that is opened is closed.
  for (const std::string name : {"html", "head", "body", "main", "header", "figure", "figcaption", "svg", "g", "div", "table", "thead", "tbody", "tr",
                                 "th", "td", "ul", "li", "details", "summary", "dl", "dt", "dd", "section", "p", "h1", "h2", "style", "script", "text", "span", "code"})
    CHECK(count(page, "<" + name + ">") + count(page, "<" + name + " ") == count(page, "</" + name + ">"));
}

TEST_CASE("a chart has its lines, a legend, a description and its values") {
  const std::string chart = drawn({.title = "Loss", .x_label = "epoch", .y_label = "nats", .lines = {{"train", {2, 1, 1.25}}, {"test", {2.5, 1.5, 1.75}}}});
  CHECK(count(chart, "role=\"img\"") == 2);  // wide and narrow
  CHECK(count(chart, "class=\"stroke\" d=\"M") == 2 + 2 * 2);
  CHECK(count(chart, "data-at=") == 2 * 6);
  CHECK(count(chart, "<li>") == 2);
  CHECK_THAT(chart, ContainsSubstring("Line chart of nats against epoch. train: from 2 at 1 to 1.25 at 3, lowest 1 at 2, highest 2 at 1. test:"));
  CHECK_THAT(chart, ContainsSubstring("<th scope=\"row\" class=\"number\">3</th><td class=\"number\">1.250</td><td class=\"number\">1.750</td>"));
}

TEST_CASE("values that cannot be drawn leave a gap and are counted") {
  const std::string chart = drawn({.title = "t", .x_label = "x", .y_label = "y", .lines = {{"a", {1, 2, not_a_number, 3, infinity, -infinity, 1e308, 4}}}});
  CHECK(count(chart, "data-at=") == 2 * 4);
  CHECK(count(first_tag(chart, "<path class=\"stroke\" d=\"M64"), "nan") == 0);
  CHECK(count(chart, "nan") == 0);
  CHECK(count(chart, "inf") == 0);
  CHECK_THAT(chart, ContainsSubstring("4 of 8 values cannot be drawn."));
  for (const char* text : {">not a number<", ">∞<", ">-∞<"}) CHECK_THAT(chart, ContainsSubstring(text));
  // On a logarithmic axis, so do zero and negative values; on the other axis they do not.
  CHECK(count(drawn({.lines = {{"a", {-1, 0, 1, 10}}}, .log_y = true}), "data-at=") == 2 * 2);
  CHECK(count(drawn({.lines = {{"a", {-1, 0, 1, 10}}}, .log_x = true}), "data-at=") == 2 * 4);
  CHECK(count(drawn({.lines = {{"a", {1, 2, 3}, {0, not_a_number, 10}}}, .log_x = true}), "data-at=") == 2);
}

TEST_CASE("charts of nothing, of one point, of equal and of extreme values are sound") {
  for (const bool log : {false, true})
    for (const std::vector<double>& values :
         {std::vector<double>{}, {not_a_number}, {5}, {0}, {-3}, {7, 7, 7}, {1e-30, 2e-30}, {1e299, -1e299}, {1, 1 + 1e-15}, {1e17, 1e17 + 16}, {1e-240, 1e240}, {1e-290, 1e290}, {5e-324}}) {
      INFO("log " << log << ", " << values.size() << " values" << (values.empty() ? 0 : values[0]));
      const std::string chart = drawn({.title = "t", .x_label = "x", .y_label = "y", .lines = {{"a", values, values}}, .log_x = log, .log_y = log});
      CHECK(count(chart, "nan") == 0);
      CHECK(count(chart, "inf") == 0);
      CHECK(count(chart, "<text") < 60);
    }
  const std::string empty = drawn({.title = "t", .x_label = "x", .y_label = "y", .lines = {{"a", {}}, {"b", {not_a_number}}}});
  CHECK(count(empty, ">no values<") == 2);
  CHECK(count(empty, "(no values)") == 2);
  CHECK_THAT(drawn({.title = "no lines"}), ContainsSubstring(">no values<"));
}

TEST_CASE("lines of different lengths meet in one table of values") {
  const std::string chart = drawn({.title = "t", .x_label = "x", .y_label = "y", .lines = {{"a", {10, 20}}, {"b", {1, 2, 3}, {2, 0.5, 4}, {0.25, 0, not_a_number}}}});
  const std::string table = chart.substr(chart.find("<tbody>"));
  CHECK(count(table, "<tr>") == 4);  // 0.5, 1, 2, 4
  CHECK_THAT(table, ContainsSubstring(">0.5</th><td class=\"number\"></td><td class=\"number\">2</td>"));
  CHECK_THAT(table, ContainsSubstring(">2</th><td class=\"number\">20</td><td class=\"number\">1 ± 0.25</td>"));
  CHECK(count(chart, "class=\"whiskers\"") == 2);
}

TEST_CASE("what does not fit together is refused") {
  Report report("t", "");
  CHECK(message_of<ShapeError>([&] { report.chart({.title = "Loss", .lines = {{"train", {1, 2}, {1}}}}); }) ==
        "ttt::report: x and spread of a line must be as long as its y: chart \"Loss\", line \"train\", y 2, x 1, spread 0");
  CHECK(message_of<ShapeError>([&] { report.chart({.title = "Loss", .lines = {{"train", {1, 2}, {}, {1, 2, 3}}}}); }) ==
        "ttt::report: x and spread of a line must be as long as its y: chart \"Loss\", line \"train\", y 2, x 0, spread 3");
  CHECK(message_of<ShapeError>([&] { report.table({.caption = "Rows", .columns = {"a", "b"}, .rows = {{"1", "2"}, {"3"}}}); }) ==
        "ttt::report: a row must have a cell for every column: table \"Rows\", row 1 has 1 cells, columns 2");
  CHECK(message_of<ShapeError>([&] { report.table({.caption = "Rows", .columns = {"a", "b"}, .rows = {}, .paper_column = "c"}); }) ==
        "ttt::report: no such column: table \"Rows\", paper_column \"c\"");
  CHECK(count(report.html(), "<figure") == 0);
}

TEST_CASE("numbers stand flush right, and the paper's column apart") {
  Report report("t", "");
  report.table({.caption = "c", .columns = {"model", "ours", "paper", "note"},
                .rows = {{"glu", "-79.1 ± 0.2", "79.7", "1st"}, {"fc", "–", "", "x"}}, .paper_column = "paper"});
  const std::string page = report.html();
  for (const char* cell : {"<th scope=\"col\">model</th>", "<td class=\"number\">-79.1 ± 0.2</td>", "<td class=\"number paper\">79.7</td>", "<td>1st</td>"})
    CHECK_THAT(page, ContainsSubstring(cell));
}

TEST_CASE("pictures are embedded, and what is none is refused") {
  const TemporaryFolder folder;
  write_bytes(folder / "p.png", one_pixel);
  Report report("t", "");
  report.picture(folder / "p.png", "a dot");
  CHECK_THAT(report.html(), ContainsSubstring("alt=\"a dot\""));
  CHECK_THAT(report.html(), ContainsSubstring("src=\"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==\""));
  write_bytes(folder / "text.png", "This is not a picture, although it is called one.");
  CHECK(message_of<IoError>([&] { report.picture(folder / "text.png", ""); }) == "ttt::report: not a PNG picture: " + folder / "text.png");
  CHECK(message_of<IoError>([&] { report.picture(folder / "none.png", ""); }) == "ttt::report: cannot open: " + folder / "none.png" + ": No such file or directory");
}

TEST_CASE("a report and an index of reports are files that replace old ones") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "a & b");
  Report report("One <1>", "Lesson \"1\"");
  report.result("Result & more");
  report.write(folder / "a & b/report.html");
  Report("Two", "").write(folder / "two.html");
  CHECK(read_bytes(folder / "a & b/report.html") == report.html());
  write_bytes(folder / "index.html", "old");
  write_report_index(folder / "index.html", "All", "Both runs", {folder / "a & b/report.html", folder / "two.html"});
  const std::string index = read_bytes(folder / "index.html");
  CHECK_THAT(index, ContainsSubstring("<a href=\"a%20%26%20b/report.html\">One &lt;1&gt;</a></h2>\n<p>Lesson &quot;1&quot;</p>\n<p>Result &amp; more</p>"));
  CHECK_THAT(index, ContainsSubstring("<a href=\"two.html\">Two</a>"));
  CHECK(folder.files() == 3);

  write_bytes(folder / "other.html", "<title>Something else</title>");
  CHECK(message_of<IoError>([&] { write_report_index(folder / "index.html", "All", "", {folder / "other.html"}); }) ==
        "ttt::write_report_index: not a report: " + folder / "other.html");
  CHECK(read_bytes(folder / "index.html") == index);
  CHECK_THAT(message_of<IoError>([&] { report.write(folder / "none/report.html"); }), ContainsSubstring("ttt::report: cannot create: "));
}

TEST_CASE("a command can be typed again") {
  const char* argv[] = {"build/train", "--out=a b", "it's", "", "$HOME", "--lr", "1e-3", "é"};
  CHECK(command_line(8, argv) == "build/train '--out=a b' 'it'\\''s' '' '$HOME' --lr 1e-3 'é'");
}
