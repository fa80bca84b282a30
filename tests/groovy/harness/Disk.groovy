package harness

import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.nio.file.StandardCopyOption

/**
 * The files of one agent, by their whole path, in memory: thousands of scenarios' files cost nothing.
 * Where a real shell runs, they are on the real disk as well.
 */
class Disk {
    final TreeMap<String, String> files = new TreeMap<>()
    private final boolean real

    Disk(boolean real) { this.real = real }

    /** Files below a directory, relative to it, that match. */
    List<String> list(String directory, String includes = '**', String excludes = null) {
        def wanted = Globs.divided(includes ?: '**')
        def unwanted = Globs.divided(excludes)
        def start = directory + '/'
        files.tailMap(start).keySet().takeWhile { it.startsWith(start) }.collect { it.substring(start.length()) }.findAll {
            Globs.any(wanted, it) && !Globs.any(unwanted, it)
        }
    }

    void write(String path, String text) {
        files[path] = text
        if (real) {
            Files.createDirectories(Paths.get(path).parent)
            new File(path).setText(text, 'UTF-8')
        }
    }

    void clear(String directory) {
        files.keySet().removeAll { it.startsWith(directory + '/') }
        if (real) {
            new File(directory).deleteDir()
            Files.createDirectories(Paths.get(directory))
        }
    }

    /** A real directory's files, with their permissions. */
    void copy(Path from, String to) {
        from.eachFileRecurse(groovy.io.FileType.FILES) { file ->
            def name = from.relativize(file).toString()
            files["${to}/${name}".toString()] = ''
            if (real) {
                def target = Paths.get(to).resolve(name)
                Files.createDirectories(target.parent)
                Files.copy(file, target, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.COPY_ATTRIBUTES)
            }
        }
    }
}
