/* cli/main.c: the `t5` program: picks the subcommand. */
#include "base/stdio.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"translate", t5_command_translate, "translate lines from one language to another"},
    {"generate", t5_command_generate, "text to text, without a template; JSON requests"},
    {"score", t5_command_score, "log-probability of given targets"},
    {"tokenize", t5_command_tokenize, "text to token ids, and back"},
    {"inspect", t5_command_inspect, "what a model folder holds"},
    {"quantize", t5_command_quantize, "write a model folder with weights of 8 or 4 bits"},
    {"shortlist", t5_command_shortlist, "list the pieces that a target language needs, from text in it"},
    {"bench", t5_command_bench, "measure the speed of a model on this machine"},
};

static void print_help(FILE *file)
{
    fputs("usage: t5 COMMAND [options]\n\nRuns T5-family models (T5, FLAN-T5, mT5, UMT5, ByT5, MADLAD-400) from their "
          "Hugging Face folders.\n\nCommands:\n",
          file);
    for (size_t i = 0; i < T5_COUNT(commands); i++)
        fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].about);
    fputs("\nt5 COMMAND --help explains its options. Exit code: 0 done, 1 failed, 2 wrong use.\n", file);
}

int t5_command_fail(const char *name, int exit_code, const t5_error *err)
{
    fflush(stdout);
    fprintf(stderr, "t5 %s: %s\n", name, err->text);
    return exit_code;
}

/* What was printed is only done when it has arrived. */
static int finish(const char *name, int exit_code)
{
    t5_error err = {0};
    if (exit_code != T5_EXIT_OK || t5_stdio_flush(stdout, &err) == T5_OK) return exit_code;
    return t5_command_fail(name, T5_EXIT_FAILED, &err);
}

int main(int argc, char **argv)
{
    const char *name = argc < 2 ? "" : argv[1];
    t5_stdio_reserve();
    for (size_t i = 0; i < T5_COUNT(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) return finish(name, commands[i].run(argc - 1, argv + 1));
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return finish(name, T5_EXIT_OK);
    }
    if (strcmp(name, "--version") == 0) {
        puts("t5 " T5_VERSION);
        return finish(name, T5_EXIT_OK);
    }
    if (name[0] == '\0') {
        print_help(stderr);
    } else {
        fprintf(stderr, "t5: unknown command %.80s; see t5 --help\n", name);
    }
    return T5_EXIT_USAGE;
}
