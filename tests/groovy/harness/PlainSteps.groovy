package harness

import hudson.AbortException
import java.nio.file.Files

/** Steps that run no command and hold no other step. */
class PlainSteps {
    final World world

    PlainSteps(World world) { this.world = world }

    def do_echo(Map named, value, Closure body) { world.log(event: 'echo', text: (named.message ?: value) as String) }

    def do_error(Map named, value, Closure body) { throw new AbortException((named.message ?: value ?: '') as String) }

    def do_unstable(Map named, value, Closure body) {
        world.worsen('UNSTABLE')
        world.log(event: 'unstable', message: (named.message ?: value) as String)
    }

    def do_checkout(Map named, value, Closure body) {
        def node = world.node('checkout')
        def source = world.scenario.checkout
        if (source != null) { copy(new File(source as String), node.workspace.toFile()) }
        world.log(event: 'checkout', auto: named.auto ?: false)
        [GIT_COMMIT: world.scenario.commit ?: '0' * 40, GIT_BRANCH: world.environment().BRANCH_NAME]
    }

    private static void copy(File from, File to) {
        from.eachFileRecurse(groovy.io.FileType.FILES) { file ->
            def target = to.toPath().resolve(from.toPath().relativize(file.toPath()))
            Files.createDirectories(target.parent)
            Files.copy(file.toPath(), target, java.nio.file.StandardCopyOption.REPLACE_EXISTING,
                java.nio.file.StandardCopyOption.COPY_ATTRIBUTES)
        }
    }

    def do_stash(Map named, value, Closure body) {
        def node = world.node('stash')
        String name = named.name ?: value
        def files = Globs.files(node.workspace, named.includes as String, named.excludes as String)
        world.log(event: 'stash', name: name, includes: named.includes, files: files)
        if (!(name ==~ /[A-Za-z0-9_.-]+/)) { throw new AbortException("stash name '${name}' is not safe") }
        if (!files && !named.allowEmpty) { throw new AbortException("No files included in stash '${name}'") }
        def store = world.stashes.resolve(name)
        store.toFile().deleteDir()
        Files.createDirectories(store)
        files.each { file ->
            Files.createDirectories(store.resolve(file).parent)
            Files.copy(node.workspace.resolve(file), store.resolve(file), java.nio.file.StandardCopyOption.COPY_ATTRIBUTES)
        }
    }

    def do_unstash(Map named, value, Closure body) {
        def node = world.node('unstash')
        String name = named.name ?: value
        def store = world.stashes.resolve(name)
        boolean found = Files.isDirectory(store)
        world.log(event: 'unstash', name: name, found: found, files: found ? Globs.files(store, '**') : [])
        if (!found) { throw new AbortException("No such saved stash '${name}'") }
        copy(store.toFile(), node.workspace.toFile())
    }

    def do_readFile(Map named, value, Closure body) {
        def file = world.file((named.file ?: value) as String)
        if (!Files.exists(file)) { throw new java.nio.file.NoSuchFileException(file.toString()) }
        file.toFile().getText('UTF-8')
    }

    def do_writeFile(Map named, value, Closure body) {
        def file = world.file(named.file as String)
        Files.createDirectories(file.parent)
        file.toFile().setText(named.text as String, 'UTF-8')
        world.log(event: 'writeFile', file: named.file as String)
    }

    def do_fileExists(Map named, value, Closure body) { Files.exists(world.file((named.file ?: value) as String)) }

    def do_readJSON(Map named, value, Closure body) {
        new groovy.json.JsonSlurper().parseText(named.text ?: do_readFile([:], named.file, null))
    }

    def do_junit(Map named, value, Closure body) { reports('junit', named, named.testResults ?: value, named.allowEmptyResults) }

    def do_archiveArtifacts(Map named, value, Closure body) {
        reports('archive', named, named.artifacts ?: value, named.allowEmptyArchive)
    }

    private void reports(String event, Map named, includes, allowEmpty) {
        def files = Globs.files(world.node(event).workspace, includes as String, named.excludes as String)
        world.log(event: event, files: files, includes: includes as String, fingerprint: named.fingerprint ?: false)
        if (!files && !allowEmpty) { throw new AbortException("No file matches '${includes}'") }
        if (event == 'junit' && world.scenario.failing_tests && files) { world.worsen('UNSTABLE') }
    }

    def do_recordIssues(Map named, value, Closure body) {
        world.node('recordIssues')
        world.log(event: 'recordIssues', arguments: named.collectEntries { k, v -> [k, v as String] })
    }

    def do_publishHTML(Map named, value, Closure body) {
        world.node('publishHTML')
        world.log(event: 'publishHTML', arguments: named.collectEntries { k, v -> [k, v as String] })
    }

    def do_publishChecks(Map named, value, Closure body) { world.log(event: 'publishChecks') }

    def do_deleteDir(Map named, value, Closure body) { clean('deleteDir') }

    def do_cleanWs(Map named, value, Closure body) { clean('cleanWs') }

    private void clean(String event) {
        def node = world.node(event)
        node.workspace.toFile().deleteDir()
        node.workspace.toFile().mkdirs()
        if (event == 'cleanWs') { new File("${node.workspace}@tmp").with { deleteDir(); mkdirs() } }
        world.log(event: event)
    }

    def do_milestone(Map named, value, Closure body) { world.log(event: 'milestone', ordinal: named.ordinal ?: value, held: world.nodes.size()) }

    def do_build(Map named, value, Closure body) {
        world.log(event: 'build', job: (named.job ?: value) as String, wait: named.wait == null ? true : named.wait)
    }

    def do_properties(Map named, value, Closure body) { world.problem('properties() in a Declarative file overwrites its options') }

    def do_sleep(Map named, value, Closure body) { world.log(event: 'sleep') }

    def do_pwd(Map named, value, Closure body) {
        def node = world.node('pwd')
        named.tmp ? "${node.workspace}@tmp".toString() : node.workspace.toString()
    }

    def do_isUnix(Map named, value, Closure body) { world.node('isUnix') != null }

    /** Symbols: descriptions that are handed to a step or an option. */
    def do_logRotator(Map named, value, Closure body) { [symbol: 'logRotator'] + named }

    def do_agent(Map named, value, Closure body) { [symbol: 'agent'] }

    def do_nonresumable(Map named, value, Closure body) { [symbol: 'nonresumable'] }

    def do_sarif(Map named, value, Closure body) { [symbol: 'sarif'] + named }

    def do_choice(Map named, value, Closure body) { [symbol: 'choice'] + named }

    def do_booleanParam(Map named, value, Closure body) { [symbol: 'booleanParam'] + named }

    def do_text(Map named, value, Closure body) { [symbol: 'text'] + named }

    def do_string(Map named, value, Closure body) { [symbol: 'string'] + named }

    def do_file(Map named, value, Closure body) { [symbol: 'file'] + named }

    def do_usernamePassword(Map named, value, Closure body) { [symbol: 'usernamePassword'] + named }

    def do_sshUserPrivateKey(Map named, value, Closure body) { [symbol: 'sshUserPrivateKey'] + named }
}
