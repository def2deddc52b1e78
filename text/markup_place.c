/* text/markup_place.c: see markup_place.h. Each pair gets one run of target words within its parent's: the run with the
 * highest sum of weights, in which a word counts for the pair when it translates one of the pair's words, and against
 * it when it translates another. So a word that the alignment got wrong does not tear a pair apart, and one far away
 * does not stretch it over half of the sentence. All choices are the first of equal ones: the same input gives the same
 * places. Costs words times pairs of a sentence, both of which are bounded by what the model can read. */
#include "text/markup_place.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

/* Weights of a target word for a pair. */
enum {
    OWN = 20,
    OWN_SIGN = 5,
    OTHER = -12, /* translates a word outside of the pair */
    OTHER_SIGN = -2,
    SIBLING = -30, /* translates a word of another pair */
    UNKNOWN = -1,
};

#define NOBODY (-1)  /* in `owners`: a word of the parent that no child has; in `taken`: free */
#define OUTSIDE (-2) /* owner of a target word that translates nothing, or nothing of the parent's */

typedef struct {
    const t5_place_args *args;
    t5_place *places;
    int32_t n_places;
    int32_t *owners;                          /* [source words] child of the parent at work that has the word */
    int32_t *taken;                           /* [target words] child of the parent at work that encloses the word */
    int32_t *firsts, *lasts;                  /* [source words] first and last target word that translates it, or -1 */
    int32_t asked_word, asked_parent, answer; /* the last border that was looked for; -1: none yet */
    bool asked_right;
} placer;

/* ---- the tree ---- */

static int32_t add_place(placer *p, int32_t parent, int32_t *last_children)
{
    const int32_t i = p->n_places++;
    p->places[i] = (t5_place){.parent = parent, .first_child = -1, .next_sibling = -1, .open = -1, .close = -1};
    last_children[i] = -1;
    if (parent < 0) return i;
    if (last_children[parent] < 0) p->places[parent].first_child = i;
    if (last_children[parent] >= 0) p->places[last_children[parent]].next_sibling = i;
    last_children[parent] = i;
    return i;
}

static size_t place_of_mark(const placer *p, int32_t i_mark)
{
    const size_t at = p->args->markup->marks[i_mark].at;
    return at > p->args->source_offset ? at - p->args->source_offset : 0;
}

/* Words of a pair: all that it touches, but none when nothing stands between its tags. */
static void set_source_words(const placer *p, t5_place *x)
{
    const t5_words *source = p->args->source;
    x->source_begin = x->open >= 0 ? t5_words_ending_after(source, place_of_mark(p, x->open)) : 0;
    x->source_end = x->close >= 0 ? t5_words_beginning_at(source, place_of_mark(p, x->close)) : source->n_items;
    const bool is_empty = x->open >= 0 && x->close >= 0 && place_of_mark(p, x->open) == place_of_mark(p, x->close);
    if (is_empty || x->source_end < x->source_begin) x->source_end = x->source_begin;
}

/* Whether a pair without words belongs to the word behind it is up to what it contains. */
static bool leans_right(const placer *p, int32_t i_mark)
{
    const t5_mark *marks = p->args->markup->marks;
    while (i_mark >= 0 && i_mark < p->args->end_mark && marks[i_mark].kind == T5_MARK_OPEN)
        i_mark++;
    return i_mark >= 0 && i_mark < p->args->end_mark && marks[i_mark].leans_right;
}

/* A pair whose opening tag stands before the sentence is open from its start: the one that closes last is outermost. */
static int32_t add_begun(placer *p, int32_t *last_children)
{
    const t5_mark *marks = p->args->markup->marks;
    int32_t parent = 0;
    for (int32_t i = p->args->end_mark - 1; i >= p->args->first_mark; i--)
        if (marks[i].kind == T5_MARK_CLOSE && marks[i].pair < p->args->first_mark) {
            parent = add_place(p, parent, last_children);
            p->places[parent].close = i;
        }
    return parent;
}

/* Parents come before their children. */
static void build_tree(placer *p, int32_t *last_children)
{
    const t5_mark *marks = p->args->markup->marks;
    add_place(p, -1, last_children);
    int32_t current = add_begun(p, last_children);
    for (int32_t i = p->args->first_mark; i < p->args->end_mark; i++) {
        T5_ASSERT(marks[i].kind != T5_MARK_BREAK);
        if (marks[i].kind == T5_MARK_CLOSE) {
            T5_ASSERT(current > 0);
            p->places[current].close = i;
            current = p->places[current].parent;
            continue;
        }
        const int32_t child = add_place(p, current, last_children);
        p->places[child].open = i;
        p->places[child].leans_right = leans_right(p, i);
        if (marks[i].kind == T5_MARK_OPEN) current = child;
        if (marks[i].kind == T5_MARK_SOLE) p->places[child].close = i;
    }
    for (int32_t i = 1; i < p->n_places; i++)
        set_source_words(p, &p->places[i]);
    p->places[0].source_end = p->args->source->n_items;
    p->places[0].end = p->args->target->n_items;
}

static bool is_sole(const t5_place *x)
{
    return x->open >= 0 && x->open == x->close;
}

/* ---- runs of words ---- */

static int32_t owner_of(const placer *p, const t5_place *parent, int32_t j)
{
    const int32_t i = p->args->aligned[j];
    return i < parent->source_begin || i >= parent->source_end ? OUTSIDE : p->owners[i];
}

static int32_t weight_of(const placer *p, const t5_place *parent, int32_t child, int32_t j)
{
    const bool is_sign = p->args->target->items[j].is_sign;
    const int32_t owner = owner_of(p, parent, j);
    if (owner == child) return is_sign ? OWN_SIGN : OWN;
    if (p->args->aligned[j] < 0) return UNKNOWN;
    if (is_sign) return OTHER_SIGN;
    return owner >= 0 ? SIBLING : OTHER;
}

/* Free words from the start of the parent, or to its end. */
static void choose_border_run(const placer *p, const t5_place *parent, int32_t child, bool is_at_end, t5_place *x)
{
    const int32_t n = parent->end - parent->begin;
    int32_t sum = 0, best_sum = 0, best = 0;
    for (int32_t k = 0; k < n; k++) {
        const int32_t j = is_at_end ? parent->end - 1 - k : parent->begin + k;
        if (p->taken[j] != NOBODY) break;
        sum += weight_of(p, parent, child, j);
        if (sum <= best_sum) continue;
        best_sum = sum;
        best = k + 1;
    }
    x->begin = is_at_end ? parent->end - best : parent->begin;
    x->end = is_at_end ? parent->end : parent->begin + best;
}

/* The free run with the highest sum; false when no word speaks for the pair. */
static bool choose_run(const placer *p, const t5_place *parent, int32_t child, t5_place *x)
{
    int32_t sum = 0, best_sum = 0, begin = parent->begin;
    for (int32_t j = parent->begin; j < parent->end; j++) {
        const bool is_free = p->taken[j] == NOBODY;
        const int32_t weight = is_free ? weight_of(p, parent, child, j) : 0;
        if (!is_free || sum + weight <= 0) {
            sum = 0;
            begin = j + 1;
            continue;
        }
        sum += weight;
        if (sum <= best_sum) continue;
        best_sum = sum;
        x->begin = begin;
        x->end = j + 1;
    }
    return best_sum > 0;
}

/* Between two target words of the parent, for what stands before word `i` of the source: behind the translation of the
 * words to its left, or before that of the words to its right. */
static int32_t find_border(placer *p, int32_t i_parent, int32_t i, bool is_right)
{
    const t5_place *parent = &p->places[i_parent];
    if (p->asked_parent == i_parent && p->asked_word == i && p->asked_right == is_right) return p->answer;
    int32_t border = -1, left = i - 1, right = i;
    if (i <= parent->source_begin) border = parent->begin;
    if (i >= parent->source_end) border = parent->end;
    while (border < 0 && (left >= parent->source_begin || right < parent->source_end)) {
        const bool takes_right = left < parent->source_begin || (is_right && right < parent->source_end);
        const int32_t found = takes_right ? p->firsts[right++] : p->lasts[left--];
        if (found >= parent->begin && found < parent->end) border = takes_right ? found : found + 1;
    }
    if (border < 0) border = parent->begin;
    p->asked_parent = i_parent;
    p->asked_word = i;
    p->asked_right = is_right;
    p->answer = border;
    return border;
}

/* A border for what is no part of the runs at it. The end of the sentence is within a pair that goes on behind it, its
 * start within one that began before. */
static int32_t leave_runs(const placer *p, const t5_place *parent, int32_t border, bool is_right)
{
    const int32_t left = border > parent->begin ? p->taken[border - 1] : NOBODY;
    const int32_t right = border < parent->end ? p->taken[border] : NOBODY;
    if (left != NOBODY && p->places[left].close < 0) return p->places[left].begin;
    if (right != NOBODY && p->places[right].open < 0) return p->places[right].end;
    if (left == NOBODY || left != right) return border;
    return is_right ? p->places[left].begin : p->places[left].end;
}

/* No word speaks for the pair: it takes the nearest that nobody else has, since an empty link is no link. */
static void choose_nearest(placer *p, int32_t i_parent, t5_place *x)
{
    const t5_place *parent = &p->places[i_parent];
    const int32_t border = leave_runs(p, parent, find_border(p, i_parent, x->source_begin, false), false);
    x->begin = x->end = border;
    for (int32_t k = 0; k < parent->end - parent->begin; k++) {
        const int32_t candidates[] = {border + k, border - 1 - k};
        for (size_t c = 0; c < T5_COUNT(candidates); c++) {
            const int32_t j = candidates[c];
            const bool is_inside = j >= parent->begin && j < parent->end;
            if (!is_inside || p->taken[j] != NOBODY || p->args->target->items[j].is_sign) continue;
            if (owner_of(p, parent, j) >= 0) continue;
            x->begin = j;
            x->end = j + 1;
            return;
        }
    }
}

static void take(placer *p, int32_t child)
{
    for (int32_t j = p->places[child].begin; j < p->places[child].end; j++)
        p->taken[j] = child;
}

static void place_pair(placer *p, int32_t child)
{
    t5_place *x = &p->places[child];
    const t5_place *parent = &p->places[x->parent];
    const bool is_all = x->source_begin <= parent->source_begin && x->source_end >= parent->source_end;
    if (is_all && p->taken[parent->begin] == NOBODY && p->taken[parent->end - 1] == NOBODY) {
        x->begin = parent->begin;
        x->end = parent->end;
    } else if (x->open < 0 || x->close < 0) {
        x->leans_right = x->close < 0; /* when it gets no word: all else stands before it, or behind */
        choose_border_run(p, parent, child, x->close < 0, x);
    } else if (!choose_run(p, parent, child, x)) {
        choose_nearest(p, x->parent, x);
    }
    take(p, child);
}

/* What encloses no word. It stays out of the runs of its siblings. */
static void place_between(placer *p, int32_t child)
{
    t5_place *x = &p->places[child];
    const t5_place *parent = &p->places[x->parent];
    const bool is_first = x->source_begin <= parent->source_begin, is_last = x->source_begin >= parent->source_end;
    if (is_first || is_last) x->leans_right = is_first;
    if (x->open < 0 || x->close < 0) x->leans_right = x->open >= 0; /* what goes on behind the sentence is last */
    const int32_t border = find_border(p, x->parent, x->source_begin, x->leans_right);
    x->begin = x->end = leave_runs(p, parent, border, x->leans_right);
}

static bool has_words(const t5_place *parent, const t5_place *x)
{
    return parent->begin < parent->end && !is_sole(x) && x->source_begin < x->source_end;
}

/* Pairs that go on beyond the sentence come first: their place is the least free. */
static void place_children(placer *p, int32_t i_parent)
{
    const t5_place *parent = &p->places[i_parent];
    for (int32_t i = parent->source_begin; i < parent->source_end; i++)
        p->owners[i] = NOBODY;
    for (int32_t j = parent->begin; j < parent->end; j++)
        p->taken[j] = NOBODY;
    for (int32_t c = parent->first_child; c >= 0; c = p->places[c].next_sibling)
        for (int32_t i = p->places[c].source_begin; i < p->places[c].source_end && !is_sole(&p->places[c]); i++)
            if (p->owners[i] == NOBODY) p->owners[i] = c;
    for (int32_t turn = 0; turn < 3; turn++)
        for (int32_t c = parent->first_child; c >= 0; c = p->places[c].next_sibling) {
            const t5_place *x = &p->places[c];
            const int32_t its_turn = !has_words(parent, x) ? 2 : x->open < 0 || x->close < 0 ? 0 : 1;
            if (its_turn != turn) continue;
            if (turn < 2) place_pair(p, c);
            if (turn == 2) place_between(p, c);
        }
}

/* ---- the order of writing ---- */

typedef struct {
    t5_place place;
    int32_t i_place;
} ranked;

/* Siblings from left to right; at the same border what leans left comes first, then the order of the source. */
static int compare_siblings(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    const bool x_left = x->place.begin == x->place.end && !x->place.leans_right;
    const bool y_left = y->place.begin == y->place.end && !y->place.leans_right;
    if (x->place.begin != y->place.begin) return x->place.begin < y->place.begin ? -1 : 1;
    if (x_left != y_left) return x_left ? -1 : 1;
    return (x->i_place > y->i_place) - (x->i_place < y->i_place);
}

/* Sorts the children of a place by relinking them. `scratch` has room for all places. */
static void sort_children(placer *p, int32_t i_parent, ranked *scratch)
{
    int32_t n = 0;
    for (int32_t c = p->places[i_parent].first_child; c >= 0; c = p->places[c].next_sibling)
        scratch[n++] = (ranked){p->places[c], c};
    qsort(scratch, (size_t)n, sizeof *scratch, compare_siblings);
    for (int32_t k = 0; k < n; k++)
        p->places[scratch[k].i_place].next_sibling = k + 1 < n ? scratch[k + 1].i_place : -1;
    if (n > 0) p->places[i_parent].first_child = scratch[0].i_place;
}

static void index_targets(placer *p)
{
    for (int32_t i = 0; i < p->args->source->n_items; i++)
        p->firsts[i] = p->lasts[i] = -1;
    for (int32_t j = 0; j < p->args->target->n_items; j++) {
        const int32_t i = p->args->aligned[j];
        if (i < 0) continue;
        if (p->firsts[i] < 0) p->firsts[i] = j;
        p->lasts[i] = j;
    }
}

t5_status t5_places_find(const t5_place_args *args, t5_place **out, int32_t *out_n, t5_error *err)
{
    t5_status status = T5_OK;
    const size_t n_marks = (size_t)(args->end_mark - args->first_mark) + 1;
    const size_t n_source = (size_t)args->source->n_items + 1, n_target = (size_t)args->target->n_items + 1;
    placer p = {.args = args, .asked_parent = -1};
    p.places = malloc(n_marks * sizeof *p.places);
    int32_t *last_children = malloc(n_marks * sizeof *last_children);
    ranked *scratch = malloc(n_marks * sizeof *scratch);
    int32_t *words = malloc((3 * n_source + n_target) * sizeof *words);
    if (p.places == NULL || last_children == NULL || scratch == NULL || words == NULL) {
        status = T5_FAIL(err, T5_ERR_NOMEM, "%zu tags of a sentence", n_marks);
        goto out;
    }
    p.owners = words;
    p.firsts = words + n_source;
    p.lasts = words + 2 * n_source;
    p.taken = words + 3 * n_source;
    build_tree(&p, last_children);
    index_targets(&p);
    for (int32_t i = 0; i < p.n_places; i++)
        place_children(&p, i);
    for (int32_t i = 0; i < p.n_places; i++)
        sort_children(&p, i, scratch);
    *out = p.places;
    *out_n = p.n_places;
    p.places = NULL; /* handed to the caller */
out:
    free(p.places);
    free(last_children);
    free(scratch);
    free(words);
    return status;
}
