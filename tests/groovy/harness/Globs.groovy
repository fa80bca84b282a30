package harness

import java.util.regex.Pattern

/** Ant's patterns, which Jenkins uses for branches (`when`) and for files (stash, archive, JUnit). */
class Globs {
    private static final Map<String, Pattern> COMPILED = [:]

    static boolean matches(String glob, String text) {
        def pattern = COMPILED[glob]
        if (pattern == null) {
            pattern = Pattern.compile(regex(glob), Pattern.DOTALL)
            COMPILED[glob] = pattern
        }
        pattern.matcher(text).matches()
    }

    /** Whether a path matches one of several patterns, divided by commas. */
    static boolean any(List<String> globs, String path) { globs.any { matches(it, path) } }

    static List<String> divided(String text) { (text ?: '').split(',').collect { it.trim() }.findAll { it } }

    private static String regex(String glob) {
        def out = new StringBuilder()
        int i = 0
        if (glob.endsWith('/')) { glob += '**' }
        while (i < glob.length()) {
            if (glob.startsWith('**/', i)) {
                out << '(?:.*/)?'
                i += 3
            } else if (glob.startsWith('/**', i) && i + 3 == glob.length()) {
                out << '(?:/.*)?'
                i += 3
            } else if (glob.startsWith('**', i)) {
                out << '.*'
                i += 2
            } else {
                char c = glob.charAt(i++)
                out << (c == '*' as char ? '[^/]*' : c == '?' as char ? '[^/]' : Pattern.quote(c as String))
            }
        }
        out.toString()
    }
}
