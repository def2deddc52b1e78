/* tests/test_bad_models.c: broken model folders. Each must be refused with one clear line that names the folder, never
 * with a crash; the sanitizers watch for the rest. test_mutants.c does the same with random damage. */
#include "cpu/cpu.h"
#include "model/model.h"
#include "tests/model_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int n_cases; /* printed at the end */

static void check_text(const char *dir, const t5_error *err, const char *text)
{
    if (strstr(err->text, text) == NULL) fail_msg("\"%s\" lacks \"%s\"", err->text, text);
    if (strstr(err->text, dir) == NULL) fail_msg("\"%s\" does not name the folder", err->text);
    assert_null(strchr(err->text, '\n'));
    n_cases++;
}

/* The weights of `dir` must be refused with a text that holds `text`; then the folder is emptied. */
static void expect_bad_weights(const char *dir, t5_status status, const char *text)
{
    t5_error err = {0};
    t5_weights *w = NULL;
    t5_status got = t5_weights_open(dir, &w, &err);
    if (got == T5_OK) fail_msg("accepted instead of \"%s\"", text);
    assert_null(w);
    check_text(dir, &err, text);
    assert_int_equal(got, status);
    assert_int_equal(err.status, status);
    folder_clear(dir);
}

#define TENSOR(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* Claim: a header that lies about its tensors is refused. Method: one lie each. */
static void bad_safetensors_headers(void **state)
{
    static const struct {
        const char *header;
        size_t n_data;
        const char *text;
    } rows[] = {
        {"", 8, "not valid JSON at line 1"},
        {"x", 8, "not valid JSON at line 1"},
        {"[1]", 0, "not a JSON object"},
        {"{}", 0, "holds no tensors"},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, "holds no tensors"},
        {"{\"__metadata__\":{}}", 4, "4 bytes of data, but its tensors end at 0"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, "duplicate object key"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "duplicate object key"},
        {"{\"a\":3}", 0, "tensor \"a\": its entry is not an object"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor \"a\": dtype is missing"},
        {"{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is missing or not a string"},
        {"{" TENSOR("a", "F31", "[1]", "[0,4]") "}", 4, "tensor \"a\": unknown dtype \"F31\""},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is not a list"},
        {"{" TENSOR("a", "F32", "1", "[0,4]") "}", 4, "shape is not a list"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "shape is not a list of at most 8 sizes"},
        {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, "shape[0] is not a size"},
        {"{" TENSOR("a", "F32", "[1,1.0]", "[0,4]") "}", 4, "shape[1] is not a size"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "the product of its shape is too large"},
        {"{" TENSOR("a", "F32", "[2305843009213693952]", "[0,0]") "}", 0, "its shape has 2305843009213693952 elements"},
        {"{" TENSOR("a", "F32", "[18446744073709551617]", "[0,4]") "}", 4, "not valid JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets is not a list of two integers"},
        {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4, "data_offsets is not a list of two integers"},
        {"{" TENSOR("a", "F32", "[1]", "[\"0\",\"4\"]") "}", 4, "data_offsets is not a list of two integers"},
        {"{" TENSOR("a", "F32", "[1]", "[0.0,4.0]") "}", 4, "data_offsets is not a list of two integers"},
        {"{" TENSOR("a", "F32", "[1]", "[-4,0]") "}", 4, "data_offsets -4 to 0 are outside the file's 4 bytes"},
        {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4, "data_offsets 4 to 0 are outside"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 3, "data_offsets 0 to 4 are outside the file's 3 bytes"},
        {"{" TENSOR("a", "F32", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4, "are outside"},
        {"{" TENSOR("a", "F32", "[2]", "[0,4]") "}", 4, "its shape has 2 elements of F32, but data_offsets span 4"},
        {"{" TENSOR("a", "F16", "[1]", "[0,4]") "}", 4, "its shape has 1 elements of F16, but data_offsets span 4"},
        {"{" TENSOR("a", "F4", "[1]", "[0,0]") "}", 0, "its shape has 1 elements of F4"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[2]", "[4,12]") "}", 12,
         "tensor \"b\": overlaps another tensor"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", 4, "overlaps another"},
        {"{" TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, "tensor \"a\": does not follow the tensor before it"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[8,12]") "}", 12,
         "tensor \"b\": does not follow the tensor before it"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 5, "5 bytes of data, but its tensors end at 4"},
        {"{" TENSOR("a\\u0000", "F32", "[1]", "[0,4]") "}", 4, "not valid JSON"},
        {"{" TENSOR("\xff", "F32", "[1]", "[0,4]") "}", 4, "not valid JSON"},
        {"{" TENSOR("a\\n", "F31", "[1]", "[0,4]") "}", 4, "tensor \"a\\x0a\": unknown dtype"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        safetensors_write(*state, "model.safetensors", rows[i].header, rows[i].n_data);
        expect_bad_weights(*state, T5_ERR_FORMAT, rows[i].text);
    }
}

/* Claim: a file of the wrong size or kind is refused before anything in it is believed. */
static void bad_safetensors_files(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } rows[] = {
        {"", 0, "the file is empty"},
        {"\2\0\0\0", 4, "4 bytes are too few"},
        {"\3\0\0\0\0\0\0\0{}", 10, "its header says that it has 3 bytes, but 2 follow"},
        {"\0\0\0\0\0\0\0\200{}", 10, "its header says that it has 9223372036854775808 bytes"},
        {"\377\377\377\377\377\377\377\377{}", 10, "its header says that it has 18446744073709551615 bytes"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", 56, "a Git LFS pointer, not the file itself"},
    };
    const char *dir = *state;
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        file_write(dir, "model.safetensors", rows[i].bytes, rows[i].n);
        expect_bad_weights(dir, T5_ERR_FORMAT, rows[i].text);
    }
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    file_write(dir, "model.safetensors", "\1\341\365\5\0\0\0\0", 8); /* a header of 100000001 bytes, all there */
    assert_int_equal(truncate(path, 100000009), 0);
    expect_bad_weights(dir, T5_ERR_FORMAT, "its header says that it has 100000001 bytes");

    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    safetensors_write(dir, "model.safetensors", deep, 0);
    expect_bad_weights(dir, T5_ERR_FORMAT, "maximum parsing depth");
    free(deep);

    assert_int_equal(mkdir(path, 0700), 0);
    expect_bad_weights(dir, T5_ERR_IO, "not a regular file");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_bad_weights(dir, T5_ERR_IO, "not a regular file");
    assert_int_equal(symlink("nowhere", path), 0);
    expect_bad_weights(dir, T5_ERR_IO, "No such file");
    expect_bad_weights(dir, T5_ERR_IO, "holds neither model.safetensors nor pytorch_model.bin");
}

/* Claim: an index may name only files beside it that hold what it says. Method: one good shard, bad indices. */
static void bad_indices(void **state)
{
    static const struct {
        t5_status status;
        const char *index, *text;
    } rows[] = {
        {T5_ERR_FORMAT, "", "not valid JSON"},
        {T5_ERR_FORMAT, "{\"weight_map\":", "not valid JSON"},
        {T5_ERR_FORMAT, "{}", "weight_map is missing"},
        {T5_ERR_FORMAT, "{\"weight_map\":{}}", "weight_map is missing"},
        {T5_ERR_FORMAT, "{\"weight_map\":[\"good\"]}", "weight_map is missing"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":1}}", "tensor \"a\": 1 is not the name of a file in this folder"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":null}}", "null is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"\"}}", "\"\" is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"../x\"}}", "\"../x\" is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"..\"}}", "\"..\" is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\".\"}}", "\".\" is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "\"/etc/passwd\" is not the name of a file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"x/y\"}}", "\"x/y\" is not the name of a file"},
        {T5_ERR_IO, "{\"weight_map\":{\"a\":\"absent\"}}", "/absent: No such file"},
        {T5_ERR_IO, "{\"weight_map\":{\"a\":\"good\",\"b\":\"absent\"}}", "/absent: No such file"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"good\",\"b\":\"good\"}}", "tensor \"b\" is not in good"},
        {T5_ERR_FORMAT, "{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}", "its header says"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        safetensors_write(*state, "good", "{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 4);
        file_write_text(*state, "model.safetensors.index.json", rows[i].index);
        expect_bad_weights(*state, rows[i].status, rows[i].text);
    }
    bytes b = {0};
    bytes_add_text(&b, "{\"weight_map\":{");
    for (int i = 0; i < 257; i++) {
        char item[40];
        snprintf(item, sizeof item, "%s\"%d\":\"s%d\"", i == 0 ? "" : ",", i, i);
        bytes_add_text(&b, item);
    }
    bytes_add_text(&b, "}}");
    file_write(*state, "model.safetensors.index.json", b.at, b.n);
    bytes_free(&b);
    expect_bad_weights(*state, T5_ERR_FORMAT, "over 256 shards");
}

/* Claim: a quantised tensor whose scales are missing or do not fit is refused when the model asks for it, and so is the
 * one value that int8 has no use for. Method: tensors "a" of 2 rows of 32 columns; safetensors_write() counts up. */
static void bad_quantized_tensors(void **state)
{
#define INT8 TENSOR("a", "I8", "[2,32]", "[0,64]")
#define PANEL8 TENSOR("a", "I8", "[1,8,64]", "[0,512]")
#define INT4 TENSOR("a", "U8", "[2,16]", "[0,32]")
    static const struct {
        const char *header;
        size_t n_data;
        int32_t n_cols;
        const char *text;
    } rows[] = {
        {"{" INT8 "}", 64, 32, "tensor \"a\" is int8 without scales (\"a_scale\")"},
        {"{" INT8 "," TENSOR("a_scale", "I64", "[2]", "[64,80]") "}", 80, 32, "is int8 without scales"},
        {"{" INT8 "," TENSOR("a_scale", "F16", "[2]", "[64,68]") "}", 68, 32, "its scales are float16 [1, 2]"},
        {"{" INT8 "," TENSOR("a_scale", "F32", "[3]", "[64,76]") "}", 76, 32,
         "is int8 [2, 32], but its scales are float32 [1, 3]"},
        {"{" INT8 "," TENSOR("a_scale", "F32", "[2,1]", "[64,72]") "}", 72, 32, "its scales are float32 [2, 1]"},
        {"{" INT8 "," TENSOR("a_scale", "F32", "[2]", "[64,72]") "}", 72, 31, "config.json wants [2, 31]"},
        {"{" TENSOR("a", "I8", "[2,66]", "[0,132]") "," TENSOR("a_scale", "F32", "[2]", "[132,140]") "}", 140, 66,
         "tensor \"a\" holds -128"},
        {"{" TENSOR("a", "I8", "[1,8,24]", "[0,192]") "}", 192, 32, "are no panels of 16, 32 or 64 columns"},
        {"{" TENSOR("a", "U8", "[1,1,290]", "[0,290]") "}", 290, 32, "are no panels of 16, 32 or 64 columns"},
        {"{" TENSOR("a", "U8", "[1,4,288]", "[0,1152]") "}", 1152, 32,
         "tensor \"a\" has shape [16, 128], config.json wants [2, 32]"},
        {"{" PANEL8 "}", 512, 32, "tensor \"a\" is int8 without scales (\"a_scale\")"},
        {"{" PANEL8 "," TENSOR("a_scale", "F32", "[16]", "[512,576]") "}", 576, 32, "its scales are float32 [1, 16]"},
        {"{" PANEL8 "," TENSOR("a_scale", "F32", "[2,17]", "[512,648]") "}", 648, 32, "its scales are float32 [2, 17]"},
        {"{" PANEL8 "," TENSOR("a_scale", "F32", "[2,2]", "[512,528]") "}", 528, 28, "config.json wants [2, 28]"},
        {"{" PANEL8 "," TENSOR("a_scale", "F32", "[2,3]", "[512,536]") "}", 536, 32, "has shape [3, 32]"},
        {"{" PANEL8 "," TENSOR("b", "F32", "[51]", "[512,716]") "," TENSOR("a_scale", "F32", "[2,2]", "[716,732]") "}",
         732, 32, "tensor \"a_scale\" holds sums that no int8 can have"},
        {"{" INT4 "}", 32, 32, "tensor \"a\" is int4 without scales"},
        {"{" INT4 "," TENSOR("a_scale", "F32", "[2,1]", "[32,40]") "}", 40, 32, "its scales are float32 [2, 1]"},
        {"{" INT4 "," TENSOR("a_scale", "BF16", "[2,2]", "[32,40]") "}", 40, 32,
         "is int4 [2, 32], but its scales are bfloat16 [2, 2]"},
        {"{" INT4 "," TENSOR("a_scale", "BF16", "[2,3]", "[32,44]") "}", 44, 32, "its scales are bfloat16 [2, 3]"},
        {"{" INT4 "," TENSOR("a_scale", "BF16", "[1,1]", "[32,34]") "}", 34, 32, "its scales are bfloat16 [1, 1]"},
        {"{" INT4 "," TENSOR("a_scale", "BF16", "[2,1]", "[32,36]") "}", 36, 33, "config.json wants [2, 33]"},
        {"{" TENSOR("a", "U8", "[2,64]", "[0,128]") "," TENSOR("a_scale", "BF16", "[2,4]", "[128,144]") "}", 144, 64,
         "tensor \"a\" has shape [2, 128], config.json wants [2, 64]"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        t5_error err = {0};
        t5_weights *w = NULL;
        t5_tensor t;
        safetensors_write(*state, "model.safetensors", rows[i].header, rows[i].n_data);
        assert_int_equal(t5_weights_open(*state, &w, &err), T5_OK);
        assert_int_equal(t5_weights_get(w, "a", 2, rows[i].n_cols, &t, &err), T5_ERR_FORMAT);
        check_text(*state, &err, rows[i].text);
        t5_weights_close(w);
    }
}

static const float values[4] = {1, 2, 3, 4};

/* A file as torch.save() writes it, with this pickle and one storage of four float32. */
static void write_torch(const char *dir, const void *pickle, size_t n)
{
    zip_writer zip = {0};
    zip_add(&zip, "x/data.pkl", pickle, n);
    zip_add(&zip, "x/data/0", values, sizeof values);
    zip_write(&zip, dir, "pytorch_model.bin");
}

#define PROTO "\x80\x02"
#define TEXT_7(seven) "X\7\0\0\0" seven
#define ODICT "ccollections\nOrderedDict\n"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE \
    "(" TEXT_7("storage") "ctorch\nFloatStorage\nX\1\0\0\0" \
                          "0" \
                          "X\3\0\0\0" \
                          "cpuK\4tQ"

#define ROW(code, text) \
    { \
        code, sizeof(code) - 1, text \
    }
static const struct {
    const char *code;
    size_t n;
    const char *text;
} bad_pickle_rows[] = {
    ROW(PROTO "cos\nsystem\n" TEXT_7("true #_") "\x85R.", "it asks for \"os.system\"; only tensors are read"),
    ROW(PROTO "cposix\nsystem\n)R.", "it asks for \"posix.system\""),
    ROW(PROTO "cbuiltins\neval\n)R.", "it asks for \"builtins.eval\""),
    ROW(PROTO "c__builtin__\nexec\n)R.", "it asks for \"__builtin__.exec\""),
    ROW(PROTO "ctorch\nload\n)R.", "it asks for \"torch.load\""),
    ROW(PROTO "ctorch._utils\n_rebuild_sparse_tensor\n)R.", "_rebuild_sparse_tensor"),
    ROW(PROTO "ccollections\nOrderedDict.__init__.__globals__\n)R.", "it asks for \"collections.OrderedDict.__init"),
    ROW(PROTO "c\n\n)R.", "it asks for \".\""),
    ROW(PROTO "cos\x1b[2J\nx\n)R.", "it asks for \"os\\x1b[2J.x\""),
    ROW(PROTO "cos", "the name of a class is broken"),
    ROW(PROTO TEXT_7("os.path") TEXT_7("systems") "\x93.", "opcode 0x93"), /* STACK_GLOBAL */
    ROW(PROTO "(ios\nsystem\n.", "opcode 0x69"),                           /* INST */
    ROW(PROTO "(o.", "opcode 0x6f"),                                       /* OBJ */
    ROW(PROTO ODICT ")\x81.", "opcode 0x81"),                              /* NEWOBJ */
    ROW(PROTO "\x82\1.", "opcode 0x82"),                                   /* EXT1 */
    ROW(PROTO "P0\n.", "opcode 0x50"),                                     /* PERSID */
    ROW(PROTO "\x8b\1\0\0\0\1.", "opcode 0x8b"),                           /* LONG4 */
    ROW("\x80\4N.", "protocol 4"),
    ROW("\x80", "it is cut short"),
    ROW("", "it is cut short"),
    ROW(PROTO, "it is cut short"),
    ROW(PROTO "}", "it is cut short"),
    ROW(PROTO ".", "a value is missing"),
    ROW(PROTO "(.", "a value is missing"),
    ROW(PROTO "N.", "holds no tensors"),
    ROW(PROTO "}.", "holds no tensors"),
    ROW(PROTO "]" TEXT_7("storage") "a.", "a list, not a dictionary of tensors"),
    ROW(PROTO "X\377\377\377\377ab", "it is cut short"),
    ROW(PROTO "X\10\0\0\0"
              "1234567",
        "it is cut short"),
    ROW(PROTO "G1234567", "it is cut short"),
    ROW(PROTO "\x8a\11"
              "123456789.",
        "a number of 9 bytes"),
    ROW(PROTO "\x8a\377.", "a number of 255 bytes"),
    ROW(PROTO "Nr\377\377\377\377.", "memo 4294967295 is too high"),
    ROW(PROTO "q\0.", "a value is missing"),
    ROW(PROTO "(q\0.", "a value is missing"),
    ROW(PROTO "h\0.", "memo 0 was never set"),
    ROW(PROTO "j\377\377\377\377.", "memo 4294967295 was never set"),
    ROW(PROTO "Nq\2h\1.", "memo 1 was never set"),
    ROW(PROTO "NN\x87.", "a value is missing"),
    ROW(PROTO "(N\x86.", "a value is missing"),
    ROW(PROTO "Nt.", "a mark is missing"),
    ROW(PROTO "}u.", "a mark is missing"),
    ROW(PROTO "s.", "a value is missing"),
    ROW(PROTO "}NNNs.", "a member of something that is not a dictionary"),
    ROW(PROTO "N(NNu.", "a member of something that is not a dictionary"),
    ROW(PROTO "(NNu.", "a member of something that is not a dictionary"),
    ROW(PROTO "}(NNNu.", "a member of something that is not a dictionary"),
    ROW(PROTO "}(Na.", "a member of something that is not a list"),
    ROW(PROTO "](e", "it is cut short"),
    ROW(PROTO "}(Ns.", "a stray mark"),
    ROW(PROTO "}Nb.", "a value of another kind"),
    ROW(PROTO "N}b.", "a value of another kind"),
    ROW(PROTO ")R.", "a value is missing"),
    ROW(PROTO "N)R.", "a value of another kind"),
    ROW(PROTO ODICT "NR.", "a value of another kind"),
    ROW(PROTO ODICT "N\x85R.", "an OrderedDict with arguments"),
    ROW(PROTO "ctorch\nFloatStorage\n)R.", "it calls a type of storage"),
    ROW(PROTO "NQ.", "a value of another kind"),
    ROW(PROTO ")Q.", "a persistent id that is not a tensor's storage"),
    ROW(PROTO "(" TEXT_7("module_") "ctorch\nFloatStorage\nX\1\0\0\0"
                                    "0"
                                    "X\3\0\0\0"
                                    "cpuK\4tQ.",
        "a persistent id"),
    ROW(PROTO "(" TEXT_7("storage") ODICT "X\1\0\0\0"
                                          "0"
                                          "X\3\0\0\0"
                                          "cpuK\4tQ.",
        "a persistent id"),
    ROW(PROTO "(" TEXT_7("storage") "ctorch\nFloatStorage\nX\1\0\0\0"
                                    "0"
                                    "X\3\0\0\0"
                                    "cpuJ\377\377\377\377tQ.",
        "a persistent id"),
    ROW(PROTO "(" TEXT_7("storage") "ctorch\nFloatStorage\nX\1\0\0\0"
                                    "0"
                                    "X\3\0\0\0"
                                    "cpuK\4)tQ.",
        "a persistent id"),
    ROW(PROTO REBUILD ")R.", "a tensor with unexpected arguments"),
    ROW(PROTO REBUILD "(NNNNNNtR.", "a tensor with unexpected arguments"),
    ROW(PROTO REBUILD "(" STORAGE "K\0K\2\x85K\1\x85\x89}NNtR.", "a tensor with unexpected arguments"),
    ROW(PROTO REBUILD "(" STORAGE "J\377\377\377\377K\2\x85K\1\x85\x89}tR.", "a tensor's offset is bad"),
    ROW(PROTO REBUILD "(" STORAGE "K\0J\377\377\377\377\x85K\1\x85\x89}tR.", "a tensor's shape is bad"),
    ROW(PROTO REBUILD "(" STORAGE "K\0N\x85K\1\x85\x89}tR.", "a tensor's shape is bad"),
    ROW(PROTO REBUILD "(" STORAGE "K\0K\1\x85\x8a\1\377\x85\x89}tR.", "a tensor's stride is bad"),
    ROW(PROTO REBUILD "(" STORAGE "K\0K\1\x85)\x89}tR.", "a tensor with 1 dimensions and 0 strides"),
    ROW(PROTO REBUILD "(" STORAGE "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t\x89}tR.",
        "a tensor with 9 dimensions"),
    ROW(PROTO "ctorch._utils\n_rebuild_parameter\n(N\x89}tR.", "a parameter with unexpected arguments"),
};
#undef ROW

/* Claim: a pickle that asks for anything but tensors is refused, and nothing in it runs. Method: the known tricks, each
 * opcode of other protocols, and damage to the stack. */
static void bad_pickles(void **state)
{
    for (size_t i = 0; i < T5_COUNT(bad_pickle_rows); i++) {
        write_torch(*state, bad_pickle_rows[i].code, bad_pickle_rows[i].n);
        expect_bad_weights(*state, T5_ERR_FORMAT, bad_pickle_rows[i].text);
    }
    bytes deep = {0}; /* tuples in tuples, and a memo that fills up: time and memory stay proportional */
    bytes_add_text(&deep, PROTO ")");
    for (int i = 0; i < 1000000; i++)
        bytes_add_text(&deep, "\x85q\1");
    write_torch(*state, deep.at, deep.n);
    bytes_free(&deep);
    expect_bad_weights(*state, T5_ERR_FORMAT, "it is cut short");
}

/* Claim: a tensor that does not fit its storage is refused, in every way in which the sums can overflow. */
static void bad_torch_tensors(void **state)
{
    static const struct {
        pickle_tensor tensor;
        const char *text;
    } rows[] = {
        {{"a", "FloatStorage", "0", 4, 0, 3, 2, 2, 1}, "tensor \"a\": reaches beyond its storage"},
        {{"a", "FloatStorage", "0", 4, 1, 2, 2, 2, 1}, "tensor \"a\": reaches beyond its storage"},
        {{"a", "FloatStorage", "0", 4, 5, 1, 0, 1, 1}, "tensor \"a\": reaches beyond its storage"},
        {{"a", "FloatStorage", "0", 4, 0, 2, 2, 3, 1}, "tensor \"a\": reaches beyond its storage"},
        {{"a", "FloatStorage", "0", 4, 0, 2, 1, 2147483647, 2147483647}, "reaches beyond its storage"},
        {{"a", "FloatStorage", "0", 4, 2147483647, 2147483647, 2147483647, 2147483647, 1}, "reaches beyond"},
        {{"a", "FloatStorage", "0", 3, 0, 1, 1, 1, 1}, "the storage \"data/0\" has 16 bytes, 3 elements of float32"},
        {{"a", "FloatStorage", "0", 2147483647, 0, 1, 1, 1, 1}, "2147483647 elements of float32 do not"},
        {{"a", "HalfStorage", "0", 4, 0, 1, 1, 1, 1}, "the storage \"data/0\" has 16 bytes, 4 elements of float16"},
        {{"a", "FloatStorage", "1", 4, 0, 1, 1, 1, 1}, "the storage \"data/1\" is missing"},
        {{"a", "FloatStorage", "../data.pkl", 4, 0, 1, 1, 1, 1}, "the storage \"data/../data.pkl\" is missing"},
        {{"a", "FloatStorage", "", 4, 0, 1, 1, 1, 1}, "the storage \"data/\" is missing"},
        {{"a", "ComplexFloatStorage", "0", 4, 0, 1, 1, 1, 1}, "it asks for \"torch.ComplexFloatStorage\""},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        bytes p = {0};
        pickle_begin(&p);
        pickle_add_tensor(&p, &rows[i].tensor, 0);
        pickle_end(&p);
        write_torch(*state, p.at, p.n);
        bytes_free(&p);
        expect_bad_weights(*state, T5_ERR_FORMAT, rows[i].text);
    }
    bytes p = {0};
    const pickle_tensor good = {"a", "FloatStorage", "0", 4, 0, 2, 2, 2, 1};
    pickle_begin(&p);
    pickle_add_tensor(&p, &good, 0);
    pickle_add_tensor(&p, &good, 0);
    pickle_end(&p);
    write_torch(*state, p.at, p.n);
    bytes_free(&p);
    expect_bad_weights(*state, T5_ERR_FORMAT, "tensor \"a\" appears twice");
    pickle_begin(&p);
    pickle_add_tensor(&p, &good, 0);
    pickle_end(&p);
    unsigned char *name = memmem(p.at, p.n, "X\1\0\0\0a", 6);
    assert_non_null(name);
    name[5] = '\0';
    write_torch(*state, p.at, p.n);
    bytes_free(&p);
    expect_bad_weights(*state, T5_ERR_FORMAT, "its name holds a NUL byte");
}

static void add_good_members(zip_writer *zip)
{
    const pickle_tensor good = {"a", "FloatStorage", "0", 4, 0, 2, 2, 2, 1};
    bytes p = {0};
    pickle_begin(&p);
    pickle_add_tensor(&p, &good, 0);
    pickle_end(&p);
    zip_add(zip, "x/data.pkl", p.at, p.n);
    zip_add(zip, "x/data/0", values, sizeof values);
    bytes_free(&p);
}

/* Claim: a zip file whose records lie is refused. Method: a good file with one number changed; the place is counted
 * from the end of the file, which has no comment: 22 bytes of end record, then 54 and 56 bytes of the two central
 * records. */
static void bad_zips(void **state)
{
    static const struct {
        int from_end;
        const char *patch;
        size_t n;
        const char *text;
    } rows[] = {
        {22, "QK", 2, "not a whole zip file"},
        {2, "\1", 1, "not a whole zip file"},
        {12, "\3\0", 2, "its central directory lies outside"},
        {12, "\0\0", 2, "the zip file is empty"},
        {12, "\377\377", 2, "its zip64 locator is missing"},
        {12, "\376\377", 2, "its central directory lies outside"},
        {10, "\377\377\377\177", 4, "its central directory lies outside"},
        {10, "\1\0\0\0", 4, "its central directory lies outside"},
        {6, "\377\377\377\177", 4, "its central directory lies outside"},
        {6, "\377\377\377\377", 4, "its zip64 locator is missing"},
        {6, "\0\0\0\0", 4, "the record of member"},
        {22 + 54, "QK", 2, "the record of member"},
        {22 + 54 - 8, "\1\0", 2, "\"x/data/0\" is compressed or encrypted"},
        {22 + 54 - 10, "\10\0", 2, "\"x/data/0\" is compressed or encrypted"},
        {22 + 54 - 20, "\17\0\0\0", 4, "the record of member \"x/data/0\" does not fit"},
        {22 + 54 - 24, "\17\0\0\0", 4, "the record of member \"x/data/0\" does not fit"},
        {22 + 54 - 24, "\377\377\377\377", 4, "the record of member \"x/data/0\" does not fit"},
        {22 + 54 - 28, "\377\377", 2, "the record of member"},
        {22 + 54 - 30, "\1\0", 2, "the record of member"},
        {22 + 54 - 42, "\0\0\0\0", 4, "the record of member \"x/data/0\" does not fit"},
        {22 + 54 - 42, "\377\377\377\177", 4, "the record of member \"x/data/0\" does not fit"},
        {22 + 8, "y", 1, "the record of member \"y/data/0\" does not fit"},
    };
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        zip_writer zip = {0};
        add_good_members(&zip);
        zip_write(&zip, *state, "pytorch_model.bin");
        bytes b = file_read(*state, "pytorch_model.bin");
        memcpy(b.at + b.n - rows[i].from_end, rows[i].patch, rows[i].n);
        file_write(*state, "pytorch_model.bin", b.at, b.n);
        bytes_free(&b);
        expect_bad_weights(*state, T5_ERR_FORMAT, rows[i].text);
    }
    zip_writer zip = {0};
    add_good_members(&zip);
    zip_add(&zip, "x/data/0", values, sizeof values);
    zip_write(&zip, *state, "pytorch_model.bin");
    expect_bad_weights(*state, T5_ERR_FORMAT, "two members have the same name");
    add_good_members(&zip);
    zip_add(&zip, "x/byteorder", "big", 3);
    zip_write(&zip, *state, "pytorch_model.bin");
    expect_bad_weights(*state, T5_ERR_FORMAT, "written on a big-endian machine");
    zip_add(&zip, "data.pkl", "}.", 2);
    zip_write(&zip, *state, "pytorch_model.bin");
    expect_bad_weights(*state, T5_ERR_FORMAT, "data.pkl is missing");
    file_write_text(*state, "pytorch_model.bin", "PK\3\4");
    expect_bad_weights(*state, T5_ERR_FORMAT, "it was cut short");
    file_write_text(*state, "pytorch_model.bin", "hello");
    expect_bad_weights(*state, T5_ERR_FORMAT, "not a file of torch.save()");
}

/* Claim: a stream of old PyTorch whose storages do not fit is refused. */
static void bad_streams(void **state)
{
    static const struct {
        const char *keys;    /* of the storages, one letter each */
        uint64_t n_elements; /* of the storage that follows */
        size_t n_bytes;
        const char *text;
    } rows[] = {
        {"0", 4, 15, "a storage of float32 reaches beyond its end"},
        {"0", 4, 17, "1 bytes follow its last storage"},
        {"0", 3, 12, "a storage of 3 elements is declared with 4"},
        {"0", UINT64_MAX, 16, "reaches beyond its end"},
        {"0", 1ull << 62, 16, "reaches beyond its end"},
        {"1", 4, 16, "its list of storages does not fit its tensors"},
        {"00", 4, 16, "its list of storages does not fit its tensors"},
        {"", 4, 16, "a tensor's storage is missing"},
    };
    const pickle_tensor good = {"a", "FloatStorage", "0", 4, 0, 2, 2, 2, 1};
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        bytes b = {0};
        static const unsigned char zeros[32];
        bytes_add(&b, "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.", 25);
        pickle_begin(&b);
        pickle_add_tensor(&b, &good, 1);
        pickle_end(&b);
        bytes_add_text(&b, "](");
        for (const char *key = rows[i].keys; *key != '\0'; key++)
            pickle_add_text(&b, (char[]){*key, '\0'});
        bytes_add_text(&b, "e.");
        bytes_add_number(&b, rows[i].n_elements, 8);
        bytes_add(&b, zeros, rows[i].n_bytes);
        file_write(*state, "pytorch_model.bin", b.at, b.n);
        bytes_free(&b);
        expect_bad_weights(*state, T5_ERR_FORMAT, rows[i].text);
    }
}

/* Claim: weights that do not fit config.json are refused with tensor and both shapes. Method: a fixture folder with one
 * number of its config.json changed, opened as a model. */
static void weights_that_do_not_fit(void **state)
{
    static const struct {
        const char *from, *to, *text;
    } rows[] = {
        {"\"d_model\": 64", "\"d_model\": 65", "has shape [1024, 64], config.json wants [1024, 65]"},
        {"\"d_ff\": 96", "\"d_ff\": 95", "config.json wants [95, 64]"},
        {"\"num_heads\": 6", "\"num_heads\": 7", "config.json wants ["},
        {"\"num_layers\": 3", "\"num_layers\": 4", "\"encoder.block.3."},
        {"\"num_decoder_layers\": 2", "\"num_decoder_layers\": 3", "\"decoder.block.2."},
        {"\"vocab_size\": 1024", "\"vocab_size\": 1023", "config.json wants [1023, 64]"},
        {"\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 31", "relative_attention_bias"},
        {"\"is_gated_act\": true", "\"is_gated_act\": false", "wi.weight\" is missing"},
        {"\"model_type\": \"t5\"", "\"model_type\": \"umt5\"", "relative_attention_bias.weight\" is missing"},
    };
    char fixture[512];
    snprintf(fixture, sizeof fixture, "%s/tests/fixtures/flan-small-shape", T5_SOURCE_DIR);
    file_copy(fixture, *state, "model.safetensors");
    bytes config = file_read(fixture, "config.json");
    bytes_add(&config, "", 1);
    t5_error err = {0};
    t5_backend *backend = NULL;
    assert_int_equal(t5_cpu_ref_create(&backend, &err), T5_OK);
    for (size_t i = 0; i < T5_COUNT(rows); i++) {
        const char *place = strstr((const char *)config.at, rows[i].from);
        assert_non_null(place);
        bytes changed = {0};
        bytes_add(&changed, config.at, (size_t)(place - (const char *)config.at));
        bytes_add_text(&changed, rows[i].to);
        bytes_add_text(&changed, place + strlen(rows[i].from));
        file_write(*state, "config.json", changed.at, changed.n);
        bytes_free(&changed);
        t5_model *model = NULL;
        t5_error_clear(&err);
        assert_int_equal(t5_model_open(*state, backend, 64, 64, &model, &err), T5_ERR_FORMAT);
        assert_null(model);
        check_text(*state, &err, rows[i].text);
    }
    backend->ops->destroy(backend);
    bytes_free(&config);
}

/* Claim: a gate whose halves have different types is refused, in whichever order: one kernel multiplies with both.
 * Method: a fixture with one half in int8. */
static void gates_of_two_types(void **state)
{
    static const char *const layers[] = {"encoder.block.2.layer.1", "decoder.block.0.layer.2"};
    for (size_t i = 0; i < 2 * T5_COUNT(layers); i++) {
        char fixture[512], tensor[128];
        t5_error err = {0};
        t5_backend *backend = NULL;
        t5_model *model = NULL;
        snprintf(fixture, sizeof fixture, "%s/tests/fixtures/flan-small-shape", T5_SOURCE_DIR);
        snprintf(tensor, sizeof tensor, "%s.DenseReluDense.wi_%d.weight", layers[i / 2], (int)i % 2);
        file_copy(fixture, *state, "config.json");
        file_copy(fixture, *state, "model.safetensors");
        safetensors_add_int8(*state, tensor, 96, 64);
        assert_int_equal(t5_cpu_create(&(t5_cpu_options){.n_threads = 1}, &backend, &err), T5_OK);
        assert_int_equal(t5_model_open(*state, backend, 64, 64, &model, &err), T5_ERR_FORMAT);
        check_text(*state, &err, layers[i / 2]);
        check_text(*state, &err, i % 2 == 0 ? "is bfloat16, wi_0 is int8" : "is int8, wi_0 is bfloat16");
        backend->ops->destroy(backend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(bad_safetensors_headers),
        IN_FOLDER(bad_safetensors_files),
        IN_FOLDER(bad_indices),
        IN_FOLDER(bad_quantized_tensors),
        IN_FOLDER(bad_pickles),
        IN_FOLDER(bad_torch_tensors),
        IN_FOLDER(bad_zips),
        IN_FOLDER(bad_streams),
        IN_FOLDER(weights_that_do_not_fit),
        IN_FOLDER(gates_of_two_types),
    };
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("%d broken model folders were refused\n", n_cases);
    return n_failed;
}
