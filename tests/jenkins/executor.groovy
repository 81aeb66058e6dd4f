// Runs a declarative Jenkinsfile against a stub of Jenkins' DSL, for several builds in one process.
// usage: groovy executor.groovy JENKINSFILE BRANCH[,tag=NAME]...   prints one JSON line per executed step.
// `sh` is recorded, not run. A step, option or directive that is not known here is an error, as it is in Jenkins.
import groovy.json.JsonOutput

class Build {
    String branch
    String tag
    String stage = ''
    List<String> credentials = []
    List<String> variables = []

    void record(String step, Map details = [:]) {
        println JsonOutput.toJson([build: tag ? "tag ${tag}" : branch, stage: stage, step: step,
                                   credentials: credentials, variables: variables] + details)
    }
}

class When {
    Build build
    List<Boolean> results = []

    void branch(String name) { results << (build.branch == name && !build.tag) }
    void buildingTag() { results << (build.tag != null) }
    void anyOf(Closure body) { results << inner(body).any() }
    void allOf(Closure body) { results << inner(body).every() }
    void not(Closure body) { results << !inner(body).every() }

    List<Boolean> inner(Closure body) {
        def nested = new When(build: build)
        Dsl.run(body, nested)
        return nested.results
    }
}

class Steps {
    Build build

    void sh(String script) { build.record('sh', [script: script]) }
    void checkout(Map settings) {
        def options = settings.extensions.find { it['$class'] == 'CloneOption' } ?: [:]
        build.record('checkout', [shallow: options.shallow, noTags: options.noTags])
    }
    Map usernamePassword(Map settings) { settings }
    void withCredentials(List<Map> bindings, Closure body) {
        def names = bindings.collectMany { [it.usernameVariable, it.passwordVariable] }
        build.credentials += names
        Dsl.run(body, this)
        build.credentials -= names
    }
    void withEnv(List<String> variables, Closure body) {
        build.variables += variables
        Dsl.run(body, this)
        build.variables -= variables
    }
}

class Stage {
    Build build
    boolean wanted = true
    Closure body

    void when(Closure condition) {
        def evaluated = new When(build: build)
        Dsl.run(condition, evaluated)
        wanted = evaluated.results.every()
    }
    void steps(Closure body) { this.body = body }
}

class Stages {
    Build build

    void stage(String name, Closure body) {
        def stage = new Stage(build: build)
        Dsl.run(body, stage)
        if (stage.body == null) { throw new IllegalStateException("stage '${name}' has no steps") }
        build.stage = name
        if (stage.wanted) { Dsl.run(stage.body, new Steps(build: build)) }
    }
}

class Options {
    void skipDefaultCheckout() { }
    void disableConcurrentBuilds() { }
    void timeout(Map settings) {
        if (!(settings.time instanceof Integer && settings.unit in ['MINUTES', 'HOURS'])) {
            throw new IllegalArgumentException("timeout ${settings}")
        }
    }
}

class Pipeline {
    Build build
    Object any = 'any'

    void agent(Object where) { if (where != any) { throw new IllegalArgumentException("agent ${where}") } }
    void options(Closure body) { Dsl.run(body, new Options()) }
    void stages(Closure body) { Dsl.run(body, new Stages(build: build)) }
}

class Dsl {
    static void run(Closure body, Object delegate) {
        def copy = body.clone()
        copy.delegate = delegate
        copy.resolveStrategy = Closure.DELEGATE_FIRST
        copy.call()
    }
}

def file = new File(args[0])
args.drop(1).each { argument ->
    def build = argument.startsWith('tag=') ? new Build(tag: argument - 'tag=') : new Build(branch: argument)
    def binding = new Binding(
        env: [WORKSPACE: '/workspace'],
        scm: [branches: ['*'], extensions: [], userRemoteConfigs: [[url: 'origin']]],
        pipeline: { Closure body -> Dsl.run(body, new Pipeline(build: build)) }
    )
    new GroovyShell(binding).evaluate(file)
}
