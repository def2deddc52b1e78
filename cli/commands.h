/* cli/commands.h: the subcommands of `t5`. Each gets its own argv (argv[0] is its name) and returns the program's exit
 * code. */
#pragma once
#include "base/error.h"

enum {
    T5_EXIT_OK = 0,
    T5_EXIT_FAILED = 1, /* the work, or a part of it, failed */
    T5_EXIT_USAGE = 2,  /* the command line is wrong */
};

int t5_command_translate(int argc, char **argv);
int t5_command_generate(int argc, char **argv);
int t5_command_score(int argc, char **argv);
int t5_command_tokenize(int argc, char **argv);
int t5_command_inspect(int argc, char **argv);
int t5_command_quantize(int argc, char **argv);
int t5_command_shortlist(int argc, char **argv);
int t5_command_bench(int argc, char **argv);

/* Prints "t5 NAME: what is wrong" to stderr. Returns `exit_code`. */
int t5_command_fail(const char *name, int exit_code, const t5_error *err);
