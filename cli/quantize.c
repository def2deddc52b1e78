/* cli/quantize.c: `t5 quantize`: a model folder with smaller weights, made once. */
#include "cli/commands.h"
#include "cli/model_flags.h"
#include "device/device.h"
#include "model/quantize_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int quantize(t5_model_flags *model, t5_quantize_args *args)
{
    t5_error err = {0};
    t5_quantize_report report;
    t5_status status = t5_model_flags_dir(model, &args->dir, &err);
    if (status == T5_OK) status = t5_quantize_folder(args, &report, &err);
    if (status != T5_OK) return t5_command_fail("quantize", T5_EXIT_FAILED, &err);
    printf("%s: %d weights in %s, %.2f MB instead of %.2f MB\n", args->out_dir, report.n_quantized,
           t5_dtype_name(args->type), (double)report.to_bytes / 1e6, (double)report.from_bytes / 1e6);
    return T5_EXIT_OK;
}

int t5_command_quantize(int argc, char **argv)
{
    t5_model_flags model;
    t5_model_flags_init(&model);
    const char *to = NULL, *panel = NULL;
    t5_quantize_args args = {0};
    const t5_flag flags[] = {
        {.name = "--to", .value_name = "TYPE", .help = "int8 or int4", .text = &to, .choices = "int8|int4"},
        {.name = "--panel",
         .value_name = "WIDTH",
         .help = "columns that lie side by side: 64 for AVX-512, 32 for AVX2, 16 for others; this machine's",
         .text = &panel,
         .choices = "16|32|64"},
    };
    const t5_command_line line = {
        .name = "quantize",
        .operands = "OUT",
        .about =
            "Writes the model to the new folder OUT with weights of 8 or 4 bits. OUT is a model folder like any\n"
            "other: every command and the server take it, and do not quantise again. The file has the weights as this\n"
            "machine's processor multiplies with them, so that loading maps them and reads none; another processor "
            "may\n"
            "have to lay them out again (--panel). int8 gives the same results\n"
            "as --compute-type int8 gives with the original, int4 the same as --compute-type int4. Embeddings,\n"
            "norms and bias tables stay as they are.",
        .flags = flags,
        .n_flags = T5_COUNT(flags),
        .shared = model.table,
        .n_shared = 1,
        .operand = &args.out_dir,
    };
    t5_flags_action action;
    t5_error err = {0};
    if (t5_flags_parse(&line, argc, argv, &action, &err) != T5_OK)
        return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    if (action == T5_FLAGS_HELP) return T5_EXIT_OK;
    if (to == NULL) T5_FAIL(&err, T5_ERR_ARG, "--to is missing: int8 or int4");
    if (args.out_dir == NULL) T5_FAIL(&err, T5_ERR_ARG, "OUT is missing: the folder to write");
    if (err.status != T5_OK) return t5_command_fail(line.name, T5_EXIT_USAGE, &err);
    args.panel = panel != NULL ? (int32_t)strtol(panel, NULL, 10) : t5_device_panel();
    args.type = strcmp(to, "int8") == 0 ? T5_I8 : T5_I4;
    return quantize(&model, &args);
}
