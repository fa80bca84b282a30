package harness

import java.nio.file.Files
import java.nio.file.Path

/** Ant's patterns, which Jenkins uses for branches (`when`) and for files (stash, archive, JUnit). */
class Globs {
    static String regex(String pattern) {
        def out = new StringBuilder()
        int i = 0
        if (pattern.endsWith('/')) { pattern += '**' }
        while (i < pattern.length()) {
            if (pattern.startsWith('**/', i)) {
                out << '(?:.*/)?'
                i += 3
            } else if (pattern.startsWith('/**', i) && i + 3 == pattern.length()) {
                out << '(?:/.*)?'
                i += 3
            } else if (pattern.startsWith('**', i)) {
                out << '.*'
                i += 2
            } else {
                char c = pattern.charAt(i++)
                out << (c == '*' as char ? '[^/]*' : c == '?' as char ? '[^/]' : java.util.regex.Pattern.quote(c as String))
            }
        }
        out.toString()
    }

    static boolean matches(String pattern, String text) {
        java.util.regex.Pattern.compile(regex(pattern), java.util.regex.Pattern.DOTALL).matcher(text).matches()
    }

    /** Files below `directory`, relative and sorted, that match one of the comma-separated patterns. */
    static List<String> files(Path directory, String includes, String excludes = null) {
        def wanted = patterns(includes ?: '**')
        def unwanted = patterns(excludes ?: '')
        def found = []
        if (Files.isDirectory(directory)) {
            directory.toFile().eachFileRecurse(groovy.io.FileType.FILES) { file ->
                def name = directory.relativize(file.toPath()).toString()
                if (wanted.any { matches(it, name) } && !unwanted.any { matches(it, name) }) { found << name }
            }
        }
        found.sort()
    }

    private static List<String> patterns(String text) {
        text.split(',').collect { it.trim() }.findAll { it }
    }
}
