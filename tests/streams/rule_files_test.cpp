#include <midwire/streams/source/rule_files.hpp>

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <fcntl.h>
#include <unistd.h>

#include "streams/program.hpp"

namespace {

using midwire::streams::read_file;
using midwire::streams::rule_files;

std::vector<std::string> names(const rule_files::loaded& l) {
  std::vector<std::string> all;
  if (l.ok())
    for (const auto& r : l.result.rules->rules) all.push_back(r.name);
  return all;
}

TEST(rule_files, order_is_that_of_adding) {
  const program_test::folder f;
  rule_files files;
  EXPECT_TRUE(files.empty());
  files.add_rule("first: do drop");
  files.add_file(f.write("a.rules", "second: do drop\ndo stop\n"));
  files.add_rule("do stop");
  EXPECT_TRUE(files.has_files());
  EXPECT_EQ(names(files.load()), (std::vector<std::string>{"first", "second", f.file("a.rules") + ":2", "-e:2"}));
}

TEST(rule_files, files_are_read_again_and_load_whole_or_not_at_all) {
  const program_test::folder f;
  rule_files files;
  files.add_file(f.write("a.rules", "one: do drop\n"));
  files.add_file(f.write("b.rules", "two: do drop\n"));
  EXPECT_EQ(names(files.load()), (std::vector<std::string>{"one", "two"}));
  f.write("a.rules", "three: do drop\n");
  f.write("b.rules", "broken: do fly\n");
  const auto broken = files.load();
  EXPECT_FALSE(broken.ok());
  EXPECT_TRUE(broken.unreadable.empty());
  f.write("b.rules", "");
  EXPECT_EQ(names(files.load()), (std::vector<std::string>{"three"}));
  unlink(f.file("a.rules").c_str());
  const auto gone = files.load();
  EXPECT_FALSE(gone.ok());
  EXPECT_EQ(gone.unreadable, (std::vector<std::string>{f.file("a.rules") + ": No such file or directory"}));
}

TEST(rule_files, values_from_files_are_relative_to_the_rule_file) {
  const program_test::folder f;
  f.write("value.bin", "replacement");
  rule_files files;
  files.add_file(f.write("a.rules", "do replace \"x\" with @value.bin\n"));
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded.result.rules->rules.front().actions.front().value.text(), "replacement");
}

// What the shell makes of <(…) can be read once only.
TEST(rule_files, a_pipe_is_read_once) {
  const program_test::folder f;
  const auto path = f.file("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer{[&] {
    const int fd = open(path.c_str(), O_WRONLY);
    EXPECT_EQ(write(fd, "one: do drop\n", 13), 13);
    close(fd);
  }};
  rule_files files;
  files.add_file(path);
  EXPECT_EQ(names(files.load()), (std::vector<std::string>{"one"}));
  writer.join();
  EXPECT_EQ(names(files.load()), (std::vector<std::string>{"one"}));
}

TEST(rule_files, reading_is_bounded) {
  const program_test::folder f;
  const auto path = f.write("big", std::string(1000, 'x'));
  std::string error;
  EXPECT_EQ(read_file(path, 1000, error)->size(), 1000u);
  EXPECT_FALSE(read_file(path, 999, error));
  EXPECT_EQ(error, "larger than 999 octets");
  EXPECT_FALSE(read_file(f.file(""), 999, error));
  EXPECT_EQ(error, "Is a directory");
}

}  // namespace
