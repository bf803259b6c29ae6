# 設定ページの日本語テキスト（です・ます調）。左側の ID と波かっこ内の名前は変更しないでください。説明は en.ftl にあります。

language-name = 日本語


## Every page

page-skip = 本文へスキップ
page-start = 最初のページに戻る
page-version = バージョン
page-time-zone-rules = タイムゾーン規則
page-api = API
page-languages = 言語


## Navigation

nav-pages = ページ
nav-preferences = 設定
nav-sign-out = ログアウト
nav-overview = 概要
nav-organizations = 組織
nav-quarantine = 隔離
nav-erasures = 消去


## Sign in

sign-in-title = ログイン
sign-in-key = キー
sign-in-hint = 受け取ったキーを貼り付けてください。
sign-in-refused = このキーは無効か、取り消されています。


## What went wrong with a page

problem-bad-request-title = 処理できませんでした
problem-bad-request = 送信された内容を読み取れませんでした。前の画面に戻ってページを再読み込みし、もう一度お試しください。
problem-forbidden-title = 許可されていません
problem-forbidden = この操作を行う権限がありません。
problem-not-found-title = ページが見つかりません
problem-not-found = このアドレスにページはありません。
problem-too-large-title = サイズが大きすぎます
problem-too-large = 送信された内容が大きすぎます。短くしてから、もう一度お試しください。
problem-invalid-title = 保存されませんでした
problem-invalid = 送信された内容を保存できません。前の画面に戻って内容を確認し、もう一度お試しください。
problem-too-many-title = しばらくお待ちください
problem-too-many = リクエストが多すぎます。しばらくしてから、もう一度お試しください。
problem-failed-title = 問題が発生しました
problem-failed = このページを表示できません。しばらくしてから、もう一度お試しください。
problem-unavailable-title = 現在ご利用いただけません
problem-unavailable = 現在、設定を読み込めません。数秒後にもう一度お試しください。
problem-other-tenant = お使いのキーは、ほかの設定のものです。
problem-other-link = お使いのリンクは、ほかの設定のものです。
problem-outdated-form = このフォームは古くなっています。ページを再読み込みしてください。
problem-no-version = 履歴にこのバージョンはありません。別のバージョンを選んでください。
problem-not-one-click = 配信を停止するには、ページのボタンをお使いください。


## Links that open the pages

open-wait = 設定を開いています…
open-no-scripts = このページには JavaScript が必要です。JavaScript なしで開けるリンクをお使いください。
link-expired-title = このリンクは有効期限が切れています
link-expired = リンクを受け取った場所に戻り、そこから設定を開き直してください。
link-used-title = このリンクはすでに使用されています
link-used = このリンクで設定を開けるのは一度だけです。リンクを受け取った場所に戻り、新しいリンクを取得してください。
link-invalid-title = このリンクは無効です
link-invalid = リンクを受け取った場所から、もう一度開いてください。コピーした場合は、一部が欠けている可能性があります。
link-ended-title = ここでは設定を表示できません
link-ended = セッションが終了したか、ブラウザでこのページの Cookie が保存されていません。ページを再読み込みして、もう一度お試しください。


## Unsubscribing by the link of an e-mail

unsubscribe-title = 配信停止
unsubscribe-ask = 「{ $feature }」の配信を停止しますか？
unsubscribe-ask-hint = 今後は届かなくなります。そのほかの設定は変わりません。
unsubscribe-done = 配信を停止しました
unsubscribe-off = 「{ $feature }」はオフになっています。
unsubscribe-again = 配信を再開しました
unsubscribe-on = 「{ $feature }」はオンになっています。
unsubscribe-undo = 元に戻す
unsubscribe-expired = 新しいメールのリンクを使うか、いつもログインする場所で設定を変更してください。
unsubscribe-invalid = メールのリンクをもう一度開いてください。コピーした場合は、一部が欠けている可能性があります。


## The list of preferences

list-title = 設定
list-title-of = { $tenant } の設定
list-back = すべての設定
list-back-of = { $tenant } のすべての設定
list-empty = 設定できる項目はまだありません。
list-empty-next = 設定できる項目ができると、ここに表示されます。
list-on = オン
list-off = オフ
list-not-set-up = 未設定
list-wrong = 確認が必要です
list-next = 次回：{ $when }
list-set-up = 設定する
list-switch-on = オンにする
list-switch-off = オフにする
list-switch-on-feature = 「{ $feature }」をオンにする
list-switch-off-feature = 「{ $feature }」をオフにする
list-switched-on = 「{ $feature }」はオンです。
list-switched-off = 「{ $feature }」はオフです。
list-history = 履歴
list-erase = このアカウントについて保存されているすべてを消去する
list-organization = 組織：{ $organization }
list-other-feature = ほかの機能
list-open = 開く
organization-members = { $members ->
    [0] メンバーはまだいません。
   *[other] メンバー { $members } 人の設定です。各メンバーは別の設定を選べます。
}


## The form of a preference: when

form-when = 日時
form-switched-on = オンにする
form-usual = 通常：{ $usual }。空欄の項目は通常の設定に従います。
form-usual-of-organization = 一部は組織が設定しています。
form-how-often = 頻度
form-choose = 選択してください
frequency-hourly = 毎時
frequency-daily = 毎日
frequency-weekly = 毎週
frequency-biweekly = 隔週
frequency-monthly = 毎月
frequency-once = 1 回のみ
usual-hourly = 通常どおり（毎時）
usual-daily = 通常どおり（毎日）
usual-weekly = 通常どおり（毎週）
usual-biweekly = 通常どおり（隔週）
usual-monthly = 通常どおり（毎月）
usual-once = 通常どおり（1 回のみ）
form-weekdays = 曜日
form-monthdays = 日にち
form-last-day = 末日
form-nth = 月の何番目か
form-nth-none = 曜日では指定しない
form-nth-first = 第 1
form-nth-second = 第 2
form-nth-third = 第 3
form-nth-fourth = 第 4
form-nth-last = 最終
form-nth-day = 月の曜日
form-nth-weekday = 平日（月曜日～金曜日）
form-month-end = 日数の少ない月では、存在しない日は末日になります。
form-interval = 間隔（日・週・月）
form-interval-daily = 間隔（日数）
form-interval-weekly = 間隔（週数）
form-interval-monthly = 間隔（月数）
form-interval-hint = 空欄の場合：1、または通常どおり。2 以上の場合は開始日も指定してください。開始日から数えます。
form-date = 日付
form-time = 時刻
form-another-time = 別の時刻
form-not-before = { $time } 以降を指定してください。
form-not-after = { $time } 以前を指定してください。
form-minute = 毎時の分
form-start = 開始日
form-start-biweekly = 隔週は、この日を含む週から数えます。
form-end = 終了日
form-paused = 再開日（それまで一時停止）
form-paused-hint = この日に自動的に再開します。
form-zone = タイムゾーン
form-zone-hint = Tokyo や New York などの都市名を英語で入力してください。
form-left-empty = 空欄の場合：通常どおり { $usual }。
form-left-empty-text = 空欄の場合：通常どおり「{ $usual }」。
form-time-left-empty = 空欄の場合：通常どおり { $usual }。
form-none-ticked = 何も選択しない場合：通常どおり { $usual }。
form-of-organization = 組織の設定です。


## The form of a preference: how

form-how = 内容
form-yes = はい
form-no = いいえ
form-option-usual = 通常どおり（{ $usual }）
form-option-unset = （未設定）
form-one-per-line = 1 行に 1 つずつ入力してください。
form-as-json = JSON 形式で入力してください。
form-advanced = 詳細設定（JSON）
form-advanced-label = JSON オブジェクト形式の詳細設定


## The form of a preference: saving

form-save = 保存
form-reset = 通常の設定に戻す
form-undo = 元に戻す
form-saved = 保存しました。
form-saved-soon = 保存しました。変更はまもなく反映されます…
form-saved-later = 保存しました。変更はサービスの稼働後に反映されます。
form-kept = 前回選択した内容を復元しました。まだ保存されていません。
form-ended = セッションが終了しました。続けるには保存してください。選択した内容は保持されます。
form-unchanged = 変更はありません。
form-not-saved = 保存できませんでした：
form-view-only = この設定は閲覧のみ可能で、変更はできません。
form-conflict = 保存できませんでした。編集中にほかの人がこの設定を変更しました。
form-conflict-now = 現在の設定：
form-conflict-choose = 下の内容で置き換えるにはもう一度保存してください。置き換えない場合は、現在の設定をそのまま使えます。
form-conflict-take = 現在の設定を使う


## The next runs

runs-title = 今後の予定
runs-show = 今後の予定を表示
runs-caption = 今後の予定
runs-failed = 今後の予定を表示できません。保存するか、ページを再読み込みしてください。
runs-unknown = 指定しない項目は通常の日時に従います。通常の日時はまだここではわかりません。
runs-left-open = 指定しない項目は、各メンバーが選びます。
runs-off = オフのため、予定はありません。
runs-off-next = オンにすると、今後の予定が表示されます。
runs-none = 今後の予定はありません。
runs-none-next = 予定を増やすには、終了日を遅くするか、別の日付を選んでください。
runs-utc = UTC
runs-skipped = この日は時刻の切り替えにより { $time } がないため、実行がその分だけ遅くなります。
runs-repeated = この日は時刻の切り替えにより { $time } が 2 回あります。1 回目に実行されます。
runs-in-zone = { $when }（{ $zone }）


## What has run

past-title = これまでの結果
past-show = これまでの結果を表示
past-loading = 読み込み中…
past-none = 表示できる結果はありません。
past-none-next = 最初の予定が実行されると、ここに表示されます。
past-unavailable = 現在、これまでの結果を表示できません。
past-done = { $when } — 完了
past-failed = { $when } — 実行できませんでした
past-nothing = { $when } — お知らせすることはありませんでした
past-skipped = { $when } — スキップ
past-skipped-off = { $when } — スキップ（オフになっていたため）
past-skipped-removed = { $when } — スキップ（設定が削除されていたため）
past-skipped-wrong = { $when } — スキップ（設定を使用できなかったため）
past-skipped-cancelled = { $when } — キャンセル
past-skipped-late = { $when } — スキップ（開始が間に合わなかったため）
past-skipped-overlap = { $when } — スキップ（前回がまだ終わっていなかったため）
past-skipped-moved = { $when } — スキップ（別の日時が選択されたため）


## When something runs: in a line

summary-wrong = 実行できません
summary-unknown = 通常の日時
summary-left-open = 各メンバーが選んだ日時
summary-off = オフ
summary-not-set = 未設定


## When something runs: sentences

sentence-hourly = { $minute ->
    [0] 毎時 0 分（{ $zone }）
   *[other] 毎時 { $minute } 分（{ $zone }）
}
sentence-daily = { $interval ->
    [1] 毎日 { $time }（{ $zone }）
    [2] 1 日おきに { $time }（{ $zone }）
   *[other] { $interval } 日ごとに { $time }（{ $zone }）
}
sentence-weekly = 毎週{ $days } { $time }（{ $zone }）
sentence-weeks = { $interval ->
    [2] 隔週{ $days } { $time }（{ $zone }）
   *[other] { $interval } 週間ごとの{ $days } { $time }（{ $zone }）
}
sentence-weeks-every-day = { $interval ->
    [2] 隔週の毎日 { $time }（{ $zone }）
   *[other] { $interval } 週間ごとの毎日 { $time }（{ $zone }）
}
sentence-monthly = { $interval ->
    [1] 毎月 { $days } { $time }（{ $zone }）
    [2] 隔月 { $days } { $time }（{ $zone }）
   *[other] { $interval } か月ごとの { $days } { $time }（{ $zone }）
}
sentence-once = { $date }のみ、{ $time }（{ $zone }）
sentence-from = { $start }から、{ $sentence }
sentence-until = { $end }まで、{ $sentence }
sentence-from-until = { $start }から{ $end }まで、{ $sentence }
sentence-paused = { $sentence }、{ $end }まで一時停止
month-day = { $day } 日
month-day-last = 末日
month-weekday = { $weekday ->
    [weekday] { $nth ->
        [first] 最初の平日
        [second] 2 番目の平日
        [third] 3 番目の平日
        [fourth] 4 番目の平日
       *[last] 最後の平日
    }
   *[other] { $nth ->
        [first] 第 1 { $day }
        [second] 第 2 { $day }
        [third] 第 3 { $day }
        [fourth] 第 4 { $day }
       *[last] 最終{ $day }
    }
}
zone-city = { $city }時間
moment = { $moment }


## Mistakes in the form

mistake-of = { $field }：{ $mistake }
mistake-days = 日
mistake-settings = 設定項目
mistake-preference = 設定
mistake-missing = 値を選択してください。
mistake-property = 「{ $name }」がありません。
mistake-wrong-type = 「{ $value }」はここでは使えません。
mistake-frequency = 「{ $value }」は頻度として使えません。
mistake-time = 「{ $value }」は時刻ではありません。09:00 のように入力してください。
mistake-zone = タイムゾーン「{ $value }」が見つかりません。Tokyo や New York などの都市名を英語で入力してください。
mistake-day = 「{ $value }」は日として使えません。
mistake-date = 「{ $value }」は日付ではありません。2026-12-24 のように入力してください。
mistake-days-unfit = 選択した日が頻度と合っていません。
mistake-interval-unfit = 選択した頻度では間隔を指定できません。空欄にしてください。
mistake-start-missing = 日付を選択してください。その日から数えます。
mistake-before-start = 開始日（{ $start }）より前の日付です。
mistake-after-end = 終了日（{ $end }）より後の日付です。
mistake-several-times = 時刻は 1 つだけ指定してください。毎時の場合は分だけが使われます。
mistake-frequency-not-offered = 「{ $value }」はここでは選べません。ほかの頻度を選んでください。
mistake-time-not-offered = { $value } はここでは選べません。
mistake-too-large = 長すぎるため保存できません。短くしてください。
mistake-too-long = { $most } 文字以内で入力してください。
mistake-too-short = { $fewest } 文字以上で入力してください。
mistake-out-of-range = { $least } から { $most } までの整数を入力してください。
mistake-too-great = { $most } 以下の数値を入力してください。
mistake-too-small = { $least } 以上の数値を入力してください。
mistake-too-many = { $most } 件以内で指定してください。
mistake-too-few = { $fewest } 件以上指定してください。
mistake-repeated = 同じ項目は一度だけ指定してください。
mistake-choice = 「{ $value }」は選択肢にありません。
mistake-format = 「{ $value }」は形式が正しくありません。
mistake-not-allowed = この値はここでは使えません。
mistake-number = 「{ $value }」は数値ではありません。
mistake-json = 「{ $value }」は JSON ではありません。
mistake-json-object = JSON オブジェクトではありません（{ $detail }）。
mistake-other = この内容は使えません（{ $detail }）。
mistake-not-below = { $limit } 未満の数値を入力してください。
mistake-not-above = { $limit } より大きい数値を入力してください。
mistake-not-a-multiple = { $number } の倍数を入力してください。
both-sentences = { $before }{ $next }


## The history

history-title = 履歴
history-title-of = { $tenant } の履歴
history-empty = まだ何も保存されていません。
history-empty-next = 変更するとここに表示され、元に戻すことができます。
history-at = { $when }（UTC）
history-by = 変更者：{ $actor }
history-change = { $before } → { $after }
history-other-settings = そのほかの設定
history-restore = 元に戻す：{ $before }
history-restore-feature = 元に戻す：{ $before }（「{ $feature }」）
history-older = 以前の変更
history-raw = バージョン { $version }（JSON）
history-by-link = 変更者：{ $actor }（リンク）
history-by-unsubscribe = 変更者：{ $actor }（配信停止リンク）
