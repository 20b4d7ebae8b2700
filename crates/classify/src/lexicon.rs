//! What words mean, as far as it matters to whoever gives orders to a model: words of ten languages by concept.
//!
//! Lower case, accents folded. A star stands for any ending. A word has the first concept that it stands under.

/// A concept, and its words between blanks.
pub(super) const LEXICON: &[(Concept, &str)] = &[
    (
        Concept::Ignore,
        "ignor* disregard* forget forgets forgotten overrid* overrul* supersed* bypass* circumvent* discard* dismiss* \
         neglect* skip skips skipping abandon* void voids nullif* cancel cancels negate replace replaces reset resets \
         unlearn drop olvid* omite omitir descarta oublie* oubliez vergiss vergessen ignorier* missacht* esquec* \
         dimentic* ignora* scarta negeer vergeet 忽略 忽视 无视 忘记 忘掉 無視 忘れ 무시 잊어 игнорир* забуд* проигнорир* \
         تجاهل انس अनदेखा pomin zignoruj gormezden unut",
    ),
    (
        Concept::Prior,
        "previous* prior preceding above earlier former formerly foregoing past existing original initial preexisting \
         predefined hitherto anterior* previas previos precedent* vorherig* bisherig* vorig* obig* dessus precedenti \
         之前 以前 先前 上述 前面 以上 前の これまで 이전 위의 предыдущ* прежн* السابقة पिछले पिछली poprzedni* onceki",
    ),
    (
        Concept::Rules,
        "instruction* rule rules guideline* directive* prompt prompts policy policies constraint* orders order mandate* \
         guidance protocol* programming principles instrucci* regla reglas consigne* regles anweisung* regeln \
         vorgaben instruc* regras istruzion* regole 指令 指示 规则 提示词 命令 ルール 指図 지시 명령 규칙 инструкц* указани* \
         правил* التعليمات تعليمات निर्देश instrukcj* zasady talimat*",
    ),
    (
        Concept::System,
        "system systemprompt sysadmin systeme sistema 系统 システム 시스템 систем* النظام root kernel metadata meta",
    ),
    (
        Concept::Instead,
        "new next instead now actually additional additionally also further furthermore another extra moreover \
         henceforth hereafter afterwards nuevo nueva nuevas ahora nouveau nouvelle maintenant jetzt neue neuen neu \
         stattdessen agora novo nova adesso nuovo nuova ora invece 新的 现在 改为 代わりに 今 新しい 새로운 이제 대신 теперь новые \
         новая вместо الآن अब teraz nowe simdi yeni",
    ),
    (
        Concept::Task,
        "task tasks objective* goal goals mission assignment question questions job request requests query tarea \
         tarefa tache aufgabe aufgaben frage compito pregunta pergunta domanda 任务 问题 タスク 質問 작업 질문 задач* задание \
         вопрос* مهمة السؤال कार्य zadanie gorev",
    ),
    (
        Concept::Stop,
        "stop halt abort wait nevermind never-mind pause quit hold cease interrupt oops detente arrete alto pare stopp \
         停止 停下 やめ 중지 стоп хватит",
    ),
    (
        Concept::Attention,
        "attention important importantly urgent urgently critical notice note warning caution beware alert priority \
         mandatory immediate immediately crucial essential vital significant emergency imperative asap hey listen \
         importante urgente atencion aviso attenzione achtung wichtig dringend atencao 重要 注意 紧急 緊急 重要な 중요 긴급 주의 \
         важно внимание срочно مهم انتباه महत्वपूर्ण ध्यान wazne uwaga onemli dikkat",
    ),
    (
        Concept::Must,
        "must required require requires always shall need needs should have has obligated obliged compelled necessary \
         forced supposed instructed expected ordered commanded debes debe deben siempre dois devez doit toujours musst \
         muss immer mussen deve devi sempre 必须 必須 总是 务必 必ず 반드시 должен должны всегда обязательно يجب हमेशा musisz zawsze",
    ),
    (
        Concept::When,
        "before first after then every each whenever once prior beforehand following upon until unless when while \
         anytime during initially antes despues primero cada avant apres chaque bevor nachdem jedes zuerst depois prima \
         dopo ogni 首先 之后 每次 先 まず 後 먼저 перед после сначала кажд* قبل بعد पहले przed po zanim once",
    ),
    (
        Concept::Not,
        "not never don't dont do-not without no none cannot can't won't mustn't shouldn't avoid refrain nothing nobody \
         doesn't isn't neither nor sin nunca jamas ne pas jamais sans nicht kein keine niemals ohne nao sem non mai \
         senza 不要 不 别 勿 无需 しない ないで 없이 마세요 не никогда без لا بدون नहीं मत nie bez",
    ),
    (
        Concept::Tell,
        "tell tells mention mentions inform informs notify notifies reveal reveals disclose discloses acknowledge ask \
         asks asking explain explains alert warn admit confess divulge announce bother informing telling mentioning \
         notifying revealing disclosing describe digas informar menciones avise decir reveler dire mentionne informer \
         sagen erwahne verrate informiere contar diga revele rivela menziona 告诉 透露 提及 通知 教え 言わ 知らせ 明かし 알려 말하지 \
         сообщай говори раскрой расскажи упоминай أخبر बताओ mow powiedz",
    ),
    (
        Concept::User,
        "user users human humans person operator customer owner people them him her anyone anybody somebody usuario \
         usuarios utilisateur benutzer nutzer utente utenti 用户 使用者 ユーザー 사용자 пользовател* المستخدم उपयोगकर्ता uzytkownik*",
    ),
    (
        Concept::Model,
        "assistant assistants ai a.i model models llm llms agent agents chatgpt claude gpt gpt-4 gpt4 gemini bot \
         chatbot copilot cursor bard llama mistral deepseek ki ia asistente assistente asystent \
         模型 助手 人工智能 アシスタント エージェント 모델 에이전트 модель ассистент агент المساعد मॉडल language-model",
    ),
    (
        Concept::You,
        "you your yours yourself u ur te tu vous votre du dein deine ihr sie voce lei tuo 你 您 你的 あなた 당신 ты вы вам ваш* твои أنت आप",
    ),
    (
        Concept::Act,
        "act pretend roleplay role-play role imagine become behave simulate persona impersonate assume suppose \
         hypothetical* fictional actua finge imagina imagine* agis fais tu-es handle-als finja 扮演 假装 假设 ふりを 演じ \
         역할 представь притворись وكأنك",
    ),
    (
        Concept::Mode,
        "mode dan jailbreak jailbroken unrestricted unfiltered uncensored debug maintenance god sudo unlocked \
         override-mode unlimited privileged elevated superuser modo modus 模式 モード 모드 режим* وضع",
    ),
    (
        Concept::Secret,
        "password* passwd secret secrets credential* token tokens apikey api-key api_key key keys private passphrase \
         cookie cookies bearer pin otp 2fa mfa ssn seed mnemonic wallet contrasen* clave claves mot-de-passe passwort \
         kennwort senha senhas chave 密码 密钥 口令 凭据 パスワード 秘密鍵 鍵 비밀번호 парол* ключ* секрет* كلمة पासवर्ड haslo sifre",
    ),
    (
        Concept::SecretFile,
        "ssh id_rsa id_ed25519 dotenv .env env keychain keyring kubeconfig netrc npmrc pypirc authorized_keys \
         known_hosts shadow htpasswd gitconfig git-credentials aws gnupg bash_history zsh_history sqlite",
    ),
    (
        Concept::Content,
        "conversation* history chat chats context transcript dialogue message messages memory contents content file \
         files document documents data information details records contact contacts inbox emails variables environment \
         parameters arguments list schema logs repository repositories source historial archivo archivos datos fichier \
         fichiers donnees datei dateien daten gesprach arquivo arquivos dados 对话 聊天 记录 文件 数据 内容 会話 履歴 ファイル 内容 \
         데이터 대화 파일 файл* данн* историю переписк* содержимое المحادثة ملف डेटा फाइल",
    ),
    (
        Concept::Send,
        "send sends sending sent forward* post posts posting upload* transmit* email emails e-mail mail exfiltrat* leak \
         leaks share shares sharing copy copies bcc cc submit submits attach attached attaches append appends include \
         includes including embed embeds embedded pass passes passing relay relays export exports push pushes deliver \
         report publish dispatch encode insert put place prepend add adds write writes envia enviar envie reenvia manda \
         envoie envoyer envoyez transmets sende senden schicke leite ubermittle encaminhe invia inviare inoltra 发送 转发 \
         上传 发到 送信 転送 アップロード 보내 전송 업로드 отправ* перешли загрузи أرسل भेज* wyslij przeslij gonder",
    ),
    (
        Concept::Read,
        "read reads open opens access accesses retrieve retrieves fetch fetches collect collects gather gathers extract \
         extracts cat dump dumps scan locate obtain capture harvest load lookup steal grab enumerate lee leer abre \
         recopila lis lire ouvre recupere lies lese offne leia abra recolha leggi apri raccogli 读取 打开 收集 获取 読み 開い 収集 \
         읽 열어 прочитай прочти открой собери اقرأ पढ़ przeczytaj oku",
    ),
    (
        Concept::Run,
        "run runs running execute executes executing executed call calls invoke invokes curl wget eval install installs \
         launch trigger bash shell sh powershell perform performs carry download script python node sudo chmod exec \
         ejecuta ejecutar llama execute* appelle lance fuhre ausfuhren rufe esegui chiama 执行 运行 调用 実行 呼び出 실행 호출 \
         выполни* запусти вызови نفذ चलाओ uruchom wykonaj calistir",
    ),
    (
        Concept::Delete,
        "delete deletes deleting remove removes wipe erase disable disables destroy rm truncate revoke terminate shut \
         kill corrupt overwrite uninstall deactivate compromise elimina borrar supprime losche entferne apague 删除 关闭 \
         禁用 削除 無効 삭제 удали* отключи احذف हटा usun sil",
    ),
    (
        Concept::Money,
        "transfer transfers wire pay payment purchase buy bitcoin btc ethereum eth iban invoice refund money funds bank \
         account gift donate deposit pague transfiere uberweise 转账 支付 送金 이체 переведи перевод",
    ),
    (
        Concept::Say,
        "print output outputs respond responds reply answer answers say says saying repeat state declare return echo \
         generate display speak begin start finish end translate summarize conclude recite respond* responde imprime di \
         affiche reponds antworte gib schreibe responda rispondi stampa 输出 回答 打印 回复 说 出力 答え 表示 返信 출력 대답 답하 \
         ответь выведи напиши скажи напечатай أجب اطبع उत्तर odpowiedz wypisz",
    ),
    (
        Concept::Only,
        "only just exactly exclusively solely simply nothing-else verbatim literally merely solo solamente seulement \
         nur apenas somente soltanto 只 仅 只需 だけ のみ 만 только лишь فقط केवल tylko sadece",
    ),
    (
        Concept::Tool,
        "tool tools function functions plugin plugins server mcp api command commands endpoint capability feature \
         herramienta outil werkzeug ferramenta strumento 工具 函数 ツール 関数 도구 инструмент* функци* أداة उपकरण narzedzie",
    ),
    (
        Concept::Prefer,
        "prefer prefers preferred best choose chooses select pick favor favour favourite recommended superior better \
         highest top default official rely obsolete deprecated outdated broken unreliable insecure slower inferior \
         never-use mejor prefiere meilleur beste bevorzug* melhor preferisci 优先 最好 首选 最優先 優先 최고 лучш* предпоч*",
    ),
    (
        Concept::Others,
        "all any other others alternative* competitor* everything anything whatever entire whole full every-other todas \
         todos toutes tous alle allen alles todas outras tutte altre 所有 一切 其他 全部 すべて 他の 모든 다른 все всех другие \
         جميع كل सभी wszystkie tum",
    ),
    (
        Concept::Approve,
        "approve approves approved approval confirm confirms confirmation consent permission permitted authorize* \
         authoris* allowed trusted trust verified pre-approved whitelist* accept acknowledged agreed grant granted \
         permiso confirmacion autoris* genehmig* bestatig* aprova* conferma 批准 确认 授权 同意 承認 確認 許可 승인 확인 \
         подтвержд* разреш* موافقة अनुमति",
    ),
    (
        Concept::Quiet,
        "silently silent secretly secret-ly quietly hidden hide hides conceal discreet discreetly background invisible \
         invisibly confidential privately covert covertly stealth transparently unnoticed internal internally \
         oculto ocultar silencio discretement cache heimlich verborgen versteckt segredo nascosto 隐藏 秘密地 悄悄 保密 \
         秘密 隠し こっそり 몰래 비밀 скрыт* тайно молча незаметно سرا चुपचाप",
    ),
    (
        Concept::Guard,
        "safety filter filters filtering guardrail* restriction* security limit limits limitation* ethics ethical \
         moderation sandbox check checks checking validation sanitization sanitize verification safeguards censorship \
         boundaries warnings 安全 限制 过滤 制限 フィルタ 제한 безопасност* ограничен* فلتر",
    ),
    (
        Concept::Authority,
        "admin administrator administrators developer developers openai anthropic google microsoft team department \
         compliance legal manager ceo boss support vendor maintainer creator engineer engineers officer staff authority \
         moderator owner-of provider company organization management 管理员 开发者 管理者 開発者 관리자 개발자 администратор* разработчик*",
    ),
    (
        Concept::Remember,
        "remember store stores save saves persist permanently future forever memorize memorise subsequent ongoing \
         recuerda guarda retiens merke erinnere lembre ricorda 记住 保存 覚え 기억 запомни تذكر याद",
    ),
    (
        Concept::Link,
        "click link links visit website webpage page image images markdown img src href url urls pixel iframe redirect \
         download-from hyperlink enlace lien klicke 点击 链接 图片 クリック リンク 클릭 링크 ссылк* нажми رابط",
    ),
    (
        Concept::Because,
        "because since so therefore hence order ensure ensures compliance audit backup sync synchronization telemetry \
         logging debugging diagnostics analytics licence license authentication activation quality monitoring otherwise \
         calibration initialise initialize personalization context-building tracking improve optimization registration",
    ),
    (
        Concept::Done,
        "done complete completed completes finished success successfully observation accomplished solved resolved \
         concluded ended finalized terminado hecho fini termine fertig erledigt concluido 完成 结束 完了 終了 완료 готово выполнено",
    ),
    (
        Concept::Encode,
        "base64 hex rot13 encoded decode decoded decrypt cipher reversed backwards binary unicode ascii morse caesar \
         obfuscat* url-encode concatenate",
    ),
    (
        Concept::Discuss,
        "attack attacks attacker attackers injection injections jailbreaks malicious detect detects detection detector \
         detectors guard guards vulnerab* exploit exploits payload payloads threat threats scanner scanners scan-for \
         classifier dataset datasets paper research adversarial mitigat* defend defense* defence* flagged flags blocked \
         blocks regression phishing poisoned poisoning evaluate evaluates evaluation benchmark probe probes owasp cve \
         risk risks harmful harmless",
    ),
    (
        Concept::Example,
        "example examples e.g eg sample samples instance quoted quote quotes phrase phrases illustrat* fixture \
         documentation documented docs readme literal lesson workshop slide quiz tutorial test tests testing ejemplo \
         exemple beispiel exemplo 例如 示例 例えば пример*",
    ),
    (
        Concept::Please,
        "please pls kindly bitte por-favor veuillez 请 ください 주세요 пожалуйста من-فضلك कृपया prosze lutfen favor",
    ),
    (
        Concept::Failure,
        "error errors fail fails failed failure fault problem exception invalid unavailable rejected denied crash bug",
    ),
];

/// What a word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Concept {
    Ignore = 1,
    Prior,
    Rules,
    System,
    Instead,
    Task,
    Stop,
    Attention,
    Must,
    When,
    Not,
    Tell,
    User,
    Model,
    You,
    Act,
    Mode,
    Secret,
    SecretFile,
    Content,
    Send,
    Read,
    Run,
    Delete,
    Money,
    Say,
    Only,
    Tool,
    Prefer,
    Others,
    Approve,
    Quiet,
    Guard,
    Authority,
    Remember,
    Link,
    Because,
    Done,
    Encode,
    Discuss,
    Example,
    Please,
    Failure,
    // What is known by its form and not by words.
    Url,
    Mail,
    Path,
    Identifier,
    Comment,
    Tag,
    Bracket,
    Rule,
    Padding,
    Turn,
}

impl Concept {
    /// How many there are.
    pub(super) const COUNT: usize = Self::Turn as usize;
}
