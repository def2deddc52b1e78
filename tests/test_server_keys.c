/* tests/test_server_keys.c: API keys, rates, and who is let in, without a server. */
#include "server/access.h"
#include "server/keys.h"
#include "server/rate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[96];

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/t5keysXXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(path, sizeof path, "%s/keys.json", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Claim: a key works after it went through the file, others do not, and the file does not contain it. Method: add two,
 * save, load, look; remove one and look again. */
static void test_round_trip(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_keys keys = {0}, loaded = {0};
    char first[T5_KEY_BYTES], second[T5_KEY_BYTES], text[2048] = "";
    assert_int_equal(t5_keys_add(&keys, "Grüße & Co", 60, 5000, first, &err), T5_OK);
    assert_int_equal(t5_keys_add(&keys, "", -1, -1, second, &err), T5_OK);
    assert_string_not_equal(first, second);
    assert_int_equal(t5_keys_save(&keys, path, &err), T5_OK);

    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    FILE *file = fopen(path, "r");
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_null(strstr(text, first));
    assert_null(strstr(text, first + 3));

    assert_int_equal(t5_keys_load(path, &loaded, &err), T5_OK);
    const t5_key *found = t5_keys_find(&loaded, first);
    assert_non_null(found);
    assert_string_equal(found->name, "Grüße & Co");
    assert_int_equal(found->req_limit, 60);
    assert_int_equal(found->char_limit, 5000);
    assert_non_null(t5_keys_find(&loaded, second));
    assert_null(t5_keys_find(&loaded, ""));
    first[10] = first[10] == 'a' ? 'b' : 'a';
    assert_null(t5_keys_find(&loaded, first));

    assert_false(t5_keys_remove(&loaded, "00000000x"));
    assert_true(t5_keys_remove(&loaded, keys.keys[1].id));
    assert_null(t5_keys_find(&loaded, second));
    assert_int_equal(loaded.n_keys, 1);
    t5_keys_deinit(&loaded);
    t5_keys_deinit(&keys);
}

/* Claim: a file that is not ours is refused with its name and the place. */
static void test_broken_files(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"{", "line 1"},
        {"[]", "\"keys\""},
        {"{\"keys\": 1}", "\"keys\""},
        {"{\"keys\": [1]}", "key 1"},
        {"{\"keys\": [{\"id\": \"zz\", \"name\": \"\", \"sha256\": \"00\"}]}", "sha256"},
        {"{\"keys\": [{\"id\": \"0123abcd\", \"name\": \"\", \"req_limit\": -2, \"sha256\": "
         "\"0000000000000000000000000000000000000000000000000000000000000000\"}]}",
         "req_limit"},
    };
    (void)state;
    for (size_t i = 0; i < T5_COUNT(cases); i++) {
        t5_error err = {0};
        t5_keys keys = {0};
        write_file(cases[i].text);
        assert_int_equal(t5_keys_load(path, &keys, &err), T5_ERR_FORMAT);
        assert_non_null(strstr(err.text, "keys.json"));
        assert_non_null(strstr(err.text, cases[i].wanted));
        assert_int_equal(keys.n_keys, 0);
    }
    unlink(path);
    t5_error err = {0};
    t5_keys keys = {0};
    assert_int_equal(t5_keys_load(path, &keys, &err), T5_ERR_IO);
}

static t5_status command(const char *const *words, char *out, size_t out_bytes, t5_error *err)
{
    char *argv[12];
    int argc = 0;
    for (; words[argc] != NULL; argc++)
        argv[argc] = (char *)(size_t)words[argc];
    argv[argc] = NULL;
    t5_error_clear(err);
    memset(out, 0, out_bytes);
    FILE *file = fmemopen(out, out_bytes, "w");
    const t5_status status = t5_keys_command(argc, argv, file, err);
    fclose(file);
    return status;
}

/* Claim: add, list and remove do what they say, and a mistake is named. */
static void test_command(void **state)
{
    (void)state;
    t5_error err = {0};
    char out[1024], key[T5_KEY_BYTES] = "", id[T5_KEY_ID_BYTES] = "";
    const char *const add[] = {"keys", "add", "--file", path, "--name", "weblate", "--req-limit", "30", NULL};
    const char *const list[] = {"keys", "list", "--file", path, NULL};
    assert_int_equal(command(list, out, sizeof out, &err), T5_ERR_IO);
    assert_int_equal(command(add, out, sizeof out, &err), T5_OK);
    sscanf(out, "%51s", key);
    assert_int_equal(strncmp(key, "t5-", 3), 0);
    assert_int_equal(strlen(key), 51);
    assert_int_equal(command(list, out, sizeof out, &err), T5_OK);
    assert_non_null(strstr(out, "weblate"));
    assert_null(strstr(out, key));
    sscanf(strchr(out, '\n'), "%8s", id);

    const char *const unknown[] = {"keys", "remove", "--file", path, "ffffffff", NULL};
    assert_int_equal(command(unknown, out, sizeof out, &err), T5_ERR_ARG);
    const char *const none[] = {"keys", "remove", "--file", path, NULL};
    assert_int_equal(command(none, out, sizeof out, &err), T5_ERR_ARG);
    const char *const bad[] = {"keys", "add", "--file", path, "--char-limit", "many", NULL};
    assert_int_equal(command(bad, out, sizeof out, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "--char-limit"));
    const char *const nothing[] = {"keys", NULL};
    assert_int_equal(command(nothing, out, sizeof out, &err), T5_ERR_ARG);
    const char *const removing[] = {"keys", "remove", "--file", path, id, NULL};
    assert_int_equal(command(removing, out, sizeof out, &err), T5_OK);
    assert_int_equal(command(list, out, sizeof out, &err), T5_OK);
    assert_null(strstr(out, "weblate"));
}

static t5_rate_account account_of(int n)
{
    t5_rate_account a = {{0}};
    memcpy(a.bytes, &n, sizeof n);
    return a;
}

/* Claim: an account gives its limit at once, then one every 60/limit seconds, and says how long to wait. */
static void test_rate(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_rate *r = NULL;
    assert_int_equal(t5_rate_create(64, 60000, 1, &r, &err), T5_OK);
    t5_rate_account a = account_of(1), b = account_of(2);
    for (int i = 0; i < 6; i++)
        assert_int_equal(t5_rate_take(r, &a, 6, 1, 1000), 0);
    assert_int_equal(t5_rate_take(r, &a, 6, 1, 1000), 11); /* ten seconds, rounded up to whole ones */
    assert_int_equal(t5_rate_take(r, &b, 6, 5, 1000), 0);
    assert_int_equal(t5_rate_take(r, &a, 6, 1, 11001), 0);
    assert_int_not_equal(t5_rate_take(r, &a, 6, 1, 11002), 0);
    assert_int_equal(t5_rate_take(r, &a, 6, 6, 1000000), 0);
    assert_int_equal(t5_rate_take(r, &b, 6, 7, 2000000), 60);
    t5_rate_destroy(r);
}

/* Claim: more clients than places do not free one that has used up its account. Method: one client at its limit, then
 * ten thousand others that ask once. */
static void test_rate_table_is_bounded(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_rate *r = NULL;
    assert_int_equal(t5_rate_create(64, 60000, 7, &r, &err), T5_OK);
    t5_rate_account heavy = account_of(-1);
    assert_int_equal(t5_rate_take(r, &heavy, 10, 10, 0), 0);
    for (int i = 0; i < 10000; i++) {
        t5_rate_account other = account_of(i);
        t5_rate_take(r, &other, 10, 1, 1);
    }
    assert_int_not_equal(t5_rate_take(r, &heavy, 10, 1, 2), 0);
    t5_rate_destroy(r);
}

/* Claim: an account fills up within its period, and no wait is longer. Method: an hour's. */
static void test_rate_of_an_hour(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_rate *r = NULL;
    assert_int_equal(t5_rate_create(64, 3600000, 1, &r, &err), T5_OK);
    t5_rate_account a = account_of(1);
    assert_int_equal(t5_rate_take(r, &a, 60, 60, 1000), 0);
    assert_int_equal(t5_rate_take(r, &a, 60, 1, 1000), 61);
    assert_int_equal(t5_rate_take(r, &a, 60, 1, 61001), 0);
    assert_int_equal(t5_rate_take(r, &a, 60, 60, 62000), 3600);
    assert_int_equal(t5_rate_take(r, &a, 60, 61, 62000), 3600);
    t5_rate_destroy(r);
}

/* --- access --- */

static t5_access_result ask(t5_access *a, const char *key, const char *peer, const char *forwarded, int64_t n_texts)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    const bool is_v4 = inet_pton(AF_INET, peer, &in.sin_addr) == 1;
    if (!is_v4) assert_int_equal(inet_pton(AF_INET6, peer, &in6.sin6_addr), 1);
    t5_access_verdict verdict;
    const void *address = is_v4 ? (const void *)&in : (const void *)&in6;
    t5_access_check(a, key, address, forwarded, n_texts, 1000, &verdict);
    if (verdict.result == T5_ACCESS_TOO_OFTEN) assert_in_range(verdict.wait_s, 1, 60);
    return verdict.result;
}

static t5_access *open_access(const char *keys, bool requires_key, int64_t limit, const char *proxies)
{
    t5_error err = {0};
    t5_access *a = NULL;
    const t5_access_options options = {
        .keys_path = keys, .requires_key = requires_key, .req_limits = {limit, -1, -1}, .trusted_proxies = proxies};
    assert_int_equal(t5_access_create(&options, &a, &err), T5_OK);
    return a;
}

/* Claim: X-Forwarded-For counts only from a trusted proxy, and of it only what trusted proxies wrote. Method: one text
 * a minute for each client; who is refused shares an account. */
static void test_addresses(void **state)
{
    (void)state;
    t5_access *a = open_access("", false, 1, "10.0.0.0/8, ::1");
    assert_int_equal(ask(a, NULL, "192.0.2.1", NULL, 1), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, NULL, "192.0.2.1", NULL, 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, "any", "192.0.2.1", "198.51.100.1", 1), T5_ACCESS_TOO_OFTEN); /* its own word */
    assert_int_equal(ask(a, NULL, "::ffff:192.0.2.1", NULL, 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, NULL, "10.9.9.9", "198.51.100.1", 1), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, NULL, "::1", "203.0.113.7, 198.51.100.1", 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, NULL, "::1", "198.51.100.2 , 10.1.1.1,10.1.1.2", 1), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, NULL, "10.9.9.9", "198.51.100.2", 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, NULL, "10.9.9.9", "nonsense", 1), T5_ACCESS_GRANTED); /* the proxy's own account */
    assert_int_equal(ask(a, NULL, "10.9.9.9", "", 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, NULL, "2001:db8::1", NULL, 1), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, NULL, "2001:db8::2", NULL, 1), T5_ACCESS_TOO_OFTEN); /* of the same /64 */
    assert_int_equal(ask(a, NULL, "2001:db8:0:1::2", NULL, 1), T5_ACCESS_GRANTED);
    t5_access_destroy(a);
}

/* Claim: a key has its own limits and account; a wrong one is refused, none only where one is needed; a new file counts
 * after a reload, and a broken one changes nothing. */
static void test_access_with_keys(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_keys keys = {0};
    char key[T5_KEY_BYTES], later[T5_KEY_BYTES];
    assert_int_equal(t5_keys_add(&keys, "", 3, 500, key, &err), T5_OK);
    assert_int_equal(t5_keys_save(&keys, path, &err), T5_OK);
    t5_access *a = open_access(path, false, 1, "");
    t5_access_verdict verdict;
    t5_access_check(a, key, NULL, NULL, 1, 1000, &verdict);
    assert_int_equal(verdict.result, T5_ACCESS_GRANTED);
    assert_int_equal(verdict.char_limit, 500);
    assert_int_equal(ask(a, key, "192.0.2.1", NULL, 2), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, key, "192.0.2.2", NULL, 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, NULL, "192.0.2.1", NULL, 1), T5_ACCESS_GRANTED);
    assert_int_equal(ask(a, "", "192.0.2.1", NULL, 1), T5_ACCESS_TOO_OFTEN);
    assert_int_equal(ask(a, "t5-wrong", "192.0.2.3", NULL, 1), T5_ACCESS_WRONG_KEY);

    assert_int_equal(t5_keys_add(&keys, "", -1, -1, later, &err), T5_OK);
    assert_int_equal(ask(a, later, "192.0.2.3", NULL, 1), T5_ACCESS_WRONG_KEY);
    assert_int_equal(t5_keys_save(&keys, path, &err), T5_OK);
    assert_int_equal(t5_access_reload(a, &err), T5_OK);
    assert_int_equal(ask(a, later, "192.0.2.3", NULL, 1), T5_ACCESS_GRANTED);
    write_file("{");
    assert_int_equal(t5_access_reload(a, &err), T5_ERR_FORMAT);
    assert_int_equal(ask(a, key, "192.0.2.3", NULL, 1), T5_ACCESS_TOO_OFTEN);
    t5_access_destroy(a);

    assert_int_equal(t5_keys_save(&keys, path, &err), T5_OK);
    a = open_access(path, true, -1, "");
    assert_int_equal(ask(a, NULL, "192.0.2.1", NULL, 1), T5_ACCESS_NO_KEY);
    assert_int_equal(ask(a, later, "192.0.2.1", NULL, 100000), T5_ACCESS_GRANTED);
    t5_access_destroy(a);
    t5_keys_deinit(&keys);
}

/* Claim: settings that cannot be met are refused by name. */
static void test_access_options(void **state)
{
    static const char *const wrong[] = {"10.0.0.0/33", "10.0.0", "::/129", "localhost", "1.2.3.4,,5.6.7.8", "1.2.3.4/"};
    (void)state;
    t5_access *a = NULL;
    for (size_t i = 0; i < T5_COUNT(wrong); i++) {
        t5_error err = {0};
        const t5_access_options options = {.keys_path = "", .req_limits = {-1, -1, -1}, .trusted_proxies = wrong[i]};
        assert_int_equal(t5_access_create(&options, &a, &err), T5_ERR_ARG);
        assert_non_null(strstr(err.text, "trusted_proxies"));
    }
    t5_error err = {0};
    const t5_access_options options = {
        .keys_path = "", .requires_key = true, .req_limits = {-1, -1, -1}, .trusted_proxies = ""};
    assert_int_equal(t5_access_create(&options, &a, &err), T5_ERR_ARG);
    assert_non_null(strstr(err.text, "require_api_key"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_command, set_up, tear_down),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_rate_table_is_bounded),
        cmocka_unit_test(test_rate_of_an_hour),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test_setup_teardown(test_access_with_keys, set_up, tear_down),
        cmocka_unit_test(test_access_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
