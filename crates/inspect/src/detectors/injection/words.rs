//! Words by which the classifier is woken: a text without them costs it nothing.

/// Words of which an order to a model has one, or two of [`WEAK_ANCHORS`], between strokes. Letters that are not ASCII are
/// compared as they are, so that words of other scripts stand without their first letter.
pub(super) const ANCHORS: &str = "\
    ### instruction| agent|.aws|.env|.ssh|/etc/shadow|<!--|<system|im_start|start_of_turn|[inst]|[system|abort the|\
    access token|act as|actual task|admin:|admin]|administrat|all safety|answer only|answer that|answer the|\
    answer this|answer with|antworte|anweisung|api keys|apikey|approve|are void|as if|as soon as you|asistente|\
    assignment|assistant|assistent|asystent|attention|base64|bcc |before you|begin your|bots:|bypass|call to action|\
    cancel that|carry out|cc:|change of plan|chatbot|claude|click on|click the|confirmation|consigne|conversation|\
    convince|cookie store|copilot|credentials|curl|decode|delete all|delete every|developer mode|directive|\
    disable all|disable two|disclose|display:none|disregard|do not|domanda|drop the|each message|email it|email the|\
    end of document|end of input|end your|envia|environment variables|envoie|envía|escrev|escrib|every answer|\
    exactly this|exfil|ferramenta|fiction|first letters|forget|former |forward every|forward the|frage|from here on|\
    from now on|from this point|gebruiker|gemini|gpt|grant |herramienta|hidden>|home directory|hypothe|id_rsa|\
    if asked|if you are asked|ignor|imagin|in a world|include this|insert an image|instrucc|is finished|is void|\
    keep in mind|keychain|kullanıcı|language model|leave behind|leave out|let's |make it look|markdown link|memoris|\
    memoriz|mention|modell |modello|modelo|modèle|napisz|negeer|never mind|new objective|new task|next action|\
    next lines|next task|no longer appl|not optional|nothing but|nothing else|notify|novel in which|nutzer|obedec|\
    obey|obéi|olvid|once upon|only output|only say|only with|open http|other tool|oubli|outil|overrid|passwd|\
    password|permission|please|pregunta|pretend|print|priority|private key|put aside|question|real work|\
    recovery phrase|recupera|regeln|reglas|regole|regras|remember|render this|repeat|reply|respond only|\
    respond with|restriction|reveal|reverse the|rot13|rules are|règles|répondez|réponds|say |schreib|scrivi|\
    secret key|secretly|send it|send the|sende|sign in at|silently|simulation|skriv|source code to|sprache|\
    start every|stop following|stop reading|story in which|strumento|supersede|suppose |system note|system prompt|\
    system:|takes precedence|talimat|task complete|task is done|tell |the following is|the model|the user|this tool|\
    throw away|to do is|todas|token to|tool call|tool_call|transfer |transmit|treat as obsolete|trust this|\
    unfiltered|universe|upload it|upload the|urgent|usuario|usuário|utente|utilisateur|użytkownik|vergiss|\
    visit http|wallet|werkzeug|wget|what follows|when asked|when summari|wire |without asking|yaz:|you are now|\
    you have to|you must|you need to|you should|your |écri|абуд|апиши|вопрос|игнор|истем|норируй|нструк|ользовател|\
    ответ|отправ|равил|ромпт|ссистент|удали|أرسل|اكتب|الإجابة|الرجاء|السؤال|المساعد|المستخدم|النظام|تجاهل|تعليمات|\
    उपयोगकर्ता|निर्देश|भूल|भेज|लिख|सहायक|アシスタント|システム|パスワード|ユーザー|删除|助手|发送|工具|忘れ|忘记|忽略|指令|指示|提示词|无视|無視|用户|系统|送信|무시|\
    사용자|시스템|어시스턴트|프롬프트";

/// Words that ordinary texts have as well.
pub(super) const WEAK_ANCHORS: &str = "\
    always|api key|api_key|credential|critical|don't|execute|forward|hidden|immediate|important|inform|instead|\
    instruc|llm|must|never|now |prompt|respond|secret|send|system|task|upload|you are";

#[cfg(test)]
mod tests {
    use super::{ANCHORS, WEAK_ANCHORS};

    #[test]
    fn no_word_is_empty_or_covered_by_another() {
        for (words, others) in [(ANCHORS, ANCHORS), (WEAK_ANCHORS, ANCHORS)] {
            for (at, word) in words.split('|').enumerate() {
                assert!(word.len() >= 3 && !word.contains('\n'), "{word:?}");
                let covers =
                    |(other, part): (usize, &str)| word.contains(part) && (words != others || other != at);
                assert!(!others.split('|').enumerate().any(covers), "{word:?}");
            }
        }
    }
}
